"""An InfluxDB that keeps state and answers as InfluxDB 2.9 does, for the admin API that provisioning uses.

Seen on a real 2.9.1: only its creation shows a token, a name that is taken is 422, a retention below the shard
group 422, an authorization without permissions 400, an unknown organisation 404, any other than the admin's token 401.
Buckets come in pages, authorizations all at once, those of a deleted bucket among them.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

Json = dict[str, Any]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

TOKEN, ORG = "admin-token-of-the-fake", "testbed"
HOUR, DAY = 3600, 86_400
PAGE = 20
CODES = {400: "invalid", 401: "unauthorized", 404: "not found", 422: "unprocessable entity", 500: "internal error"}


class Refused(Exception):
    """An error answer: a status, and the message that InfluxDB's body carries."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class FakeInfluxDB:
    """One InfluxDB with one organisation: `async with fake.running(): ... fake.url`.

    `fail_once` holds (method, path) pairs: the next such request is answered by 500. `calls` is what was asked.
    """

    def __init__(self, token: str = TOKEN) -> None:
        self.url = ""
        self.token = token
        self.org_id = _ident()
        self.buckets: dict[str, Json] = {}
        self.authorizations: dict[str, Json] = {}
        self.secrets: dict[str, str] = {}
        self.calls: list[tuple[str, str]] = []
        self.fail_once: list[tuple[str, str]] = []
        self.make_bucket("_monitoring", 7 * DAY, type="system")
        self.make_bucket("_tasks", 3 * DAY, type="system")
        self.make_token("admin's Token", [{"action": "write", "resource": {"type": "buckets"}}])

    @asynccontextmanager
    async def running(self) -> AsyncIterator[FakeInfluxDB]:
        """Listen on a loopback port until the block ends."""
        app = web.Application(middlewares=[self._answer])
        app.add_routes(
            [
                web.get("/api/v2/orgs", self._list_orgs),
                web.get("/api/v2/buckets", self._list_buckets),
                web.post("/api/v2/buckets", self._create_bucket),
                web.get("/api/v2/buckets/{id}", self._get_bucket),
                web.patch("/api/v2/buckets/{id}", self._change_bucket),
                web.delete("/api/v2/buckets/{id}", self._delete_bucket),
                web.get("/api/v2/authorizations", self._list_authorizations),
                web.post("/api/v2/authorizations", self._create_authorization),
                web.patch("/api/v2/authorizations/{id}", self._change_authorization),
                web.delete("/api/v2/authorizations/{id}", self._delete_authorization),
            ]
        )
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        try:
            yield self
        finally:
            await runner.cleanup()

    # ------------------------------------------------------------------ what tests look at and change

    def make_bucket(self, name: str, retention_s: int = 0, **more: Any) -> str:
        """Make a bucket by hand; its id."""
        rules = [_rule({"everySeconds": retention_s})] if retention_s else []
        bucket = {"id": _ident(), "orgID": self.org_id, "type": "user", "name": name, "retentionRules": rules, **more}
        self.buckets[bucket["id"]] = bucket
        return str(bucket["id"])

    def retention(self, name: str) -> int:
        """The retention of a bucket, in seconds."""
        return int(self.bucket(name)["retentionRules"][0]["everySeconds"])

    def bucket(self, name: str) -> Json:
        (found,) = (bucket for bucket in self.buckets.values() if bucket["name"] == name)
        return found

    def rights(self, secret: str | None) -> set[str]:
        """What a token may do: `read acme`. Nothing where nobody has it."""
        names = {bucket["id"]: bucket["name"] for bucket in self.buckets.values()}
        ident = next((ident for ident, kept in self.secrets.items() if kept == secret), "")
        permissions = self.authorizations.get(ident, {"permissions": []})["permissions"]
        return {f"{one['action']} {names.get(one['resource'].get('id'), '?')}" for one in permissions}

    def described(self, text: str) -> list[str]:
        """The ids of the authorizations whose description holds `text`."""
        return [ident for ident, one in self.authorizations.items() if text in one["description"]]

    def delete_token(self, ident: str) -> None:
        """Delete an authorization by hand."""
        del self.authorizations[ident], self.secrets[ident]

    # ------------------------------------------------------------------ HTTP

    @web.middleware
    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            if request.headers.get("Authorization") != f"Token {self.token}":
                raise Refused(401, "unauthorized access")
            call = (request.method, request.path)
            self.calls.append(call)
            for failing in self.fail_once:
                if call[0] == failing[0] and call[1].startswith(failing[1]):
                    self.fail_once.remove(failing)
                    raise Refused(500, "something went wrong")
            return await handler(request)
        except Refused as error:
            body = {"code": CODES[error.status], "message": str(error)}
            return web.json_response(body, status=error.status)

    async def _list_orgs(self, request: web.Request) -> web.Response:
        self._check_org(request)
        return web.json_response({"orgs": [{"id": self.org_id, "name": ORG}]})

    async def _list_buckets(self, request: web.Request) -> web.Response:
        self._check_org(request)
        offset, limit = int(request.query.get("offset", 0)), int(request.query.get("limit", PAGE))
        if not 1 <= limit <= 100:
            raise Refused(400, "limit must be between 1 and 100")
        page = list(self.buckets.values())[offset : offset + limit]
        return web.json_response({"buckets": page})

    async def _create_bucket(self, request: web.Request) -> web.Response:
        asked = await request.json()
        if asked["orgID"] != self.org_id:
            raise Refused(404, "organization not found")
        if any(bucket["name"] == asked["name"] for bucket in self.buckets.values()):
            raise Refused(422, f"bucket with name {asked['name']} already exists")
        rules = [_rule(rule) for rule in asked["retentionRules"]]
        ident = self.make_bucket(asked["name"], description=asked.get("description", ""), retentionRules=rules)
        return web.json_response(self.buckets[ident], status=201)

    async def _get_bucket(self, request: web.Request) -> web.Response:
        return web.json_response(_one(self.buckets, request, "bucket"))

    async def _change_bucket(self, request: web.Request) -> web.Response:
        bucket, asked = _one(self.buckets, request, "bucket"), await request.json()
        old = bucket["retentionRules"][0]["shardGroupDurationSeconds"] if bucket["retentionRules"] else HOUR
        rules = [_rule({"shardGroupDurationSeconds": old, **rule}) for rule in asked.get("retentionRules", [])]
        bucket.update({key: asked[key] for key in ("name", "description") if key in asked})
        bucket["retentionRules"] = rules or bucket["retentionRules"]
        return web.json_response(bucket)

    async def _delete_bucket(self, request: web.Request) -> web.Response:
        del self.buckets[_one(self.buckets, request, "bucket")["id"]]
        return web.Response(status=204)

    async def _list_authorizations(self, request: web.Request) -> web.Response:
        self._check_org(request)
        return web.json_response({"authorizations": list(self.authorizations.values())})

    async def _create_authorization(self, request: web.Request) -> web.Response:
        asked = await request.json()
        if not asked.get("permissions"):
            raise Refused(400, "authorization must include permissions")
        made = self.make_token(asked.get("description", ""), asked["permissions"])
        return web.json_response({**made, "token": self.secrets[made["id"]]}, status=201)

    async def _change_authorization(self, request: web.Request) -> web.Response:
        found, asked = _one(self.authorizations, request, "authorization"), await request.json()
        found.update({key: asked[key] for key in ("description", "status") if key in asked})
        return web.json_response(found)

    async def _delete_authorization(self, request: web.Request) -> web.Response:
        self.delete_token(_one(self.authorizations, request, "authorization")["id"])
        return web.Response(status=204)

    def make_token(self, description: str, permissions: list[Json]) -> Json:
        ident = _ident()
        self.secrets[ident] = secrets.token_urlsafe(16)
        made = {"id": ident, "token": "", "status": "active", "description": description, "org": ORG}
        self.authorizations[ident] = {**made, "orgID": self.org_id, "permissions": permissions}
        return self.authorizations[ident]

    def _check_org(self, request: web.Request) -> None:
        name = request.query.get("org", ORG)
        if name != ORG:
            raise Refused(404, f'organization name "{name}" not found')


def _one(several: dict[str, Json], request: web.Request, what: str) -> Json:
    found = several.get(request.match_info["id"])
    if found is None:
        raise Refused(404, f"{what} not found")
    return found


def _rule(asked: Json) -> Json:
    """A retention rule as it is kept; without a shard group's length the server chooses one."""
    seconds = asked["everySeconds"]
    group = asked.get("shardGroupDurationSeconds") or (HOUR if 0 < seconds < 2 * DAY else DAY)
    if 0 < seconds < group:
        raise Refused(422, "shard-group duration must also be updated to be smaller than new retention duration")
    return {"type": "expire", "everySeconds": seconds, "shardGroupDurationSeconds": group}


def _ident() -> str:
    return secrets.token_hex(8)
