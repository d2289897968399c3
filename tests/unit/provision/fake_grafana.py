"""A Grafana that keeps state and answers as its API is documented, for the endpoints that provisioning uses.

It is strict where Grafana is: a server admin's basic auth for organisations and users, `X-Grafana-Org-Id` for
everything inside one (main organisation without it), membership and roles, 409 or 412 for what is taken, versions of
dashboards, provenance of alert rules, secrets that are never shown. `major` 13 differs from 11 as the sources do: 409
for a dashboard that exists, and a search that lists only what was there at the last `index()`.
"""

from __future__ import annotations

import base64
import copy
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Json = dict[str, Any]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

ADMIN, PASSWORD = "admin", "pässword"
NEVER, ONCE = "2015-01-01T00:00:00Z", "2026-11-01T12:00:00Z"
ROLES = ("Viewer", "Editor", "Admin")
_UID = re.compile(r"[a-zA-Z0-9\-_]{1,40}")


class Refused(Exception):
    """An error answer: a status, and the message that Grafana's body carries."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Account:
    """One user; `password` in the clear, since nobody but tests looks."""

    id: int
    login: str
    email: str
    name: str
    password: str
    is_admin: bool = False
    last_seen: str = NEVER
    created: str = "2026-11-01T12:00:00Z"

    def as_json(self) -> Json:
        named = {"id": self.id, "login": self.login, "email": self.email, "name": self.name}
        return named | {"createdAt": self.created}


@dataclass
class Organisation:
    """One organisation; `roles` by user id, all else by UID."""

    id: int
    name: str
    roles: dict[int, str] = field(default_factory=dict)
    sources: dict[str, Json] = field(default_factory=dict)
    secrets: dict[str, Json] = field(default_factory=dict)
    folders: dict[str, str] = field(default_factory=dict)
    dashboards: dict[str, Json] = field(default_factory=dict)
    rules: dict[str, Json] = field(default_factory=dict)
    indexed: set[str] = field(default_factory=set)


class FakeGrafana:
    """A Grafana at `url`. `breaks` is called before each writing request: what it returns is an error, if anything."""

    def __init__(self, major: int = 11, *, auto_assign_org: bool = True) -> None:
        self.major = major
        self.auto_assign_org = auto_assign_org
        self.url = ""
        self.accounts: dict[int, Account] = {1: Account(1, ADMIN, "admin@localhost", "", PASSWORD, True, ONCE)}
        self.orgs: dict[int, Organisation] = {1: Organisation(1, "Main Org.", {1: "Admin"})}
        self.writes: list[str] = []
        self.secrets: dict[str, str] = {}  # what whoever provisions keeps about this Grafana
        self.breaks: Callable[[str, int], str] = lambda _request, _count: ""
        self._next = 1

    # ------------------------------------------------------------------ for tests

    def org(self, name: str) -> Organisation:
        return next(org for org in self.orgs.values() if org.name == name)

    def account(self, login: str) -> Account:
        return next(one for one in self.accounts.values() if login in (one.login, one.email))

    def role(self, org: str, login: str) -> str | None:
        return self.org(org).roles.get(self.account(login).id)

    def orgs_of(self, login: str) -> set[str]:
        ident = self.account(login).id
        return {org.name for org in self.orgs.values() if ident in org.roles}

    def add_org(self, name: str, **roles: str) -> Organisation:
        """An organisation that somebody made by hand; the admin is an Admin of it."""
        org = Organisation(self._ident(), name, {1: "Admin"})
        org.roles |= {self.account(login).id: role for login, role in roles.items()}
        self.orgs[org.id] = org
        return org

    def add_account(self, login: str, name: str = "", email: str = "") -> Account:
        account = Account(self._ident(), login, email or login, name, "secret", last_seen=ONCE)
        self.accounts[account.id] = account
        return account

    def edit_dashboard(self, org: str, uid: str, by: str, **changes: Any) -> None:
        """What Grafana's page does when somebody saves a dashboard."""
        assert self.role(org, by) in ("Editor", "Admin"), f"{by} may not edit in {org}"
        stored = self.org(org).dashboards[uid]
        model = stored["dashboard"] | changes
        self._store_dashboard(self.org(org), model, stored["meta"]["folderUid"], by)

    def may_edit_rule(self, org: str, uid: str) -> bool:
        """The page refuses to edit what has a provenance."""
        return not self.org(org).rules[uid]["provenance"]

    def index(self) -> None:
        for org in self.orgs.values():
            org.indexed = set(org.dashboards)

    @asynccontextmanager
    async def running(self, prefix: str = "") -> AsyncIterator[FakeGrafana]:
        """Serve at `url`, below a path if there is a prefix."""
        app = web.Application(middlewares=[self._guard])
        for method, path, handler in self._routes():
            app.router.add_route(method, f"{prefix}/api{path}", handler)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        self.url = f"http://{host}:{port}{prefix}"
        try:
            yield self
        finally:
            await runner.cleanup()

    # ------------------------------------------------------------------ requests

    def _routes(self) -> list[tuple[str, str, Handler]]:
        rules = "/v1/provisioning/alert-rules"
        return [
            ("GET", "/orgs", self._list_orgs),
            ("POST", "/orgs", self._create_org),
            ("PUT", "/orgs/{org}", self._rename_org),
            ("DELETE", "/orgs/{org}", self._delete_org),
            ("GET", "/orgs/{org}/users", self._list_members),
            ("POST", "/orgs/{org}/users", self._add_member),
            ("PATCH", "/orgs/{org}/users/{user}", self._change_member),
            ("DELETE", "/orgs/{org}/users/{user}", self._remove_member),
            ("GET", "/users/lookup", self._look_up),
            ("GET", "/users/{user}", self._get_account),
            ("GET", "/users/{user}/orgs", self._orgs_of_user),
            ("POST", "/admin/users", self._create_user),
            ("PUT", "/admin/users/{user}/password", self._set_password),
            ("DELETE", "/admin/users/{user}", self._delete_user),
            ("GET", "/datasources", self._list_sources),
            ("POST", "/datasources", self._create_source),
            ("GET", "/datasources/uid/{uid}", self._get_source),
            ("PUT", "/datasources/uid/{uid}", self._update_source),
            ("DELETE", "/datasources/uid/{uid}", self._delete_source),
            ("GET", "/folders", self._list_folders),
            ("POST", "/folders", self._create_folder),
            ("GET", "/folders/{uid}", self._get_folder),
            ("DELETE", "/folders/{uid}", self._delete_folder),
            ("GET", "/search", self._search),
            ("POST", "/dashboards/db", self._save_dashboard),
            ("GET", "/dashboards/uid/{uid}", self._get_dashboard),
            ("DELETE", "/dashboards/uid/{uid}", self._delete_dashboard),
            ("GET", rules, self._list_rules),
            ("POST", rules, self._create_rule),
            ("PUT", rules + "/{uid}", self._update_rule),
            ("DELETE", rules + "/{uid}", self._delete_rule),
        ]

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            self._signed_in(request)
            if request.method != "GET":
                self._note(f"{request.method} {request.path}")
            return await handler(request)
        except Refused as error:
            return web.json_response({"message": str(error)}, status=error.status)

    def _note(self, request: str) -> None:
        if broken := self.breaks(request, len(self.writes)):
            raise Refused(500, broken)
        self.writes.append(request)

    def _signed_in(self, request: web.Request) -> Account:
        kind, _, text = request.headers.get("Authorization", "").partition(" ")
        user, _, password = base64.b64decode(text).decode().partition(":")
        for account in self.accounts.values():
            if kind == "Basic" and user in (account.login, account.email) and password == account.password:
                return account
        raise Refused(401, "Invalid username or password")

    def _admin(self, request: web.Request) -> Account:
        account = self._signed_in(request)
        if not account.is_admin:
            raise Refused(403, "You'll need additional permissions to perform this action.")
        return account

    def _inside(self, request: web.Request, role: str) -> Organisation:
        """The organisation of the header, if the account has at least this role there."""
        org = self.orgs.get(int(request.headers.get("X-Grafana-Org-Id", "1")))
        has = org.roles.get(self._signed_in(request).id) if org else None
        if org is None or has is None or ROLES.index(has) < ROLES.index(role):
            raise Refused(403, "You'll need additional permissions to perform this action.")
        return org

    def _ident(self) -> int:
        self._next += 1
        return self._next

    def _org_of(self, request: web.Request) -> Organisation:
        self._admin(request)
        org = self.orgs.get(int(request.match_info["org"]))
        if org is None:
            raise Refused(404, "Organization not found")
        return org

    def _account_of(self, request: web.Request) -> Account:
        self._admin(request)
        account = self.accounts.get(int(request.match_info["user"]))
        if account is None:
            raise Refused(404, "user not found")
        return account

    def _find_account(self, login: str) -> Account | None:
        name = login.lower()
        return next((one for one in self.accounts.values() if name in (one.login.lower(), one.email.lower())), None)

    # ------------------------------------------------------------------ organisations and users

    async def _list_orgs(self, request: web.Request) -> web.Response:
        self._admin(request)
        return web.json_response([{"id": org.id, "name": org.name} for org in self.orgs.values()])

    async def _create_org(self, request: web.Request) -> web.Response:
        account, name = self._admin(request), (await request.json())["name"]
        if any(org.name == name for org in self.orgs.values()):
            raise Refused(409, "Organization name taken")
        org = Organisation(self._ident(), name, {account.id: "Admin"})
        self.orgs[org.id] = org
        return web.json_response({"orgId": org.id, "message": "Organization created"})

    async def _rename_org(self, request: web.Request) -> web.Response:
        org, name = self._org_of(request), (await request.json())["name"]
        if any(other.name == name for other in self.orgs.values() if other is not org):
            raise Refused(400, "Organization name taken")
        org.name = name
        return web.json_response({"message": "Organization updated"})

    async def _delete_org(self, request: web.Request) -> web.Response:
        del self.orgs[self._org_of(request).id]
        return web.json_response({"message": "Organization deleted"})

    async def _list_members(self, request: web.Request) -> web.Response:
        org = self._org_of(request)
        members = [(self.accounts[ident], role) for ident, role in org.roles.items()]
        return web.json_response(
            [
                {
                    "orgId": org.id,
                    "userId": one.id,
                    "login": one.login,
                    "email": one.email,
                    "name": one.name,
                    "role": role,
                    "lastSeenAt": one.last_seen,
                }
                for one, role in members
            ]
        )

    async def _add_member(self, request: web.Request) -> web.Response:
        org, body = self._org_of(request), await request.json()
        account = self._find_account(body["loginOrEmail"])
        if account is None:
            raise Refused(404, "User not found")
        if account.id in org.roles:
            raise Refused(409, "User is already member of this organization")
        org.roles[account.id] = _role(body)
        return web.json_response({"message": "User added to organization", "userId": account.id})

    async def _change_member(self, request: web.Request) -> web.Response:
        org, role = self._org_of(request), _role(await request.json())
        ident = int(request.match_info["user"])
        if ident not in org.roles:
            raise Refused(404, "user not found in organization")
        org.roles[ident] = role
        return web.json_response({"message": "Organization user updated"})

    async def _remove_member(self, request: web.Request) -> web.Response:
        org = self._org_of(request)
        if org.roles.pop(int(request.match_info["user"]), None) is None:
            raise Refused(404, "user not found in organization")
        return web.json_response({"message": "User removed from organization"})

    async def _look_up(self, request: web.Request) -> web.Response:
        self._admin(request)
        account = self._find_account(request.query["loginOrEmail"])
        if account is None:
            raise Refused(404, "user not found")
        return web.json_response(account.as_json())

    async def _get_account(self, request: web.Request) -> web.Response:
        return web.json_response(self._account_of(request).as_json())

    async def _orgs_of_user(self, request: web.Request) -> web.Response:
        account = self._account_of(request)
        orgs = [org for org in self.orgs.values() if account.id in org.roles]
        return web.json_response([{"orgId": org.id, "name": org.name, "role": org.roles[account.id]} for org in orgs])

    async def _create_user(self, request: web.Request) -> web.Response:
        self._admin(request)
        body = await request.json()
        login, email = body.get("login") or body["email"], body.get("email") or body["login"]
        if self._find_account(login) or self._find_account(email):
            raise Refused(412, f"User with email '{email}' or username '{login}' already exists")
        account = Account(self._ident(), login.lower(), email.lower(), body.get("name", ""), body["password"])
        org = self._org_for(body, account)
        self.accounts[account.id] = account
        org.roles[account.id] = "Viewer" if self.auto_assign_org else "Admin"
        return web.json_response({"id": account.id, "message": "User created"})

    def _org_for(self, body: Json, account: Account) -> Organisation:
        """`OrgId` counts only with auto_assign_org; without, each new user gets an organisation."""
        if self.auto_assign_org:
            return self.orgs[body.get("OrgId", 1)]
        org = Organisation(self._ident(), account.email)
        self.orgs[org.id] = org
        return org

    async def _set_password(self, request: web.Request) -> web.Response:
        self._account_of(request).password = (await request.json())["password"]
        return web.json_response({"message": "User password updated"})

    async def _delete_user(self, request: web.Request) -> web.Response:
        account = self._account_of(request)
        del self.accounts[account.id]
        for org in self.orgs.values():
            org.roles.pop(account.id, None)
        return web.json_response({"message": "User deleted"})

    # ------------------------------------------------------------------ data sources and folders

    async def _list_sources(self, request: web.Request) -> web.Response:
        return web.json_response(list(self._inside(request, "Admin").sources.values()))

    async def _create_source(self, request: web.Request) -> web.Response:
        org, body = self._inside(request, "Admin"), await request.json()
        if body["uid"] in org.sources or any(body["name"] == one["name"] for one in org.sources.values()):
            raise Refused(409, "data source with the same name already exists")
        self._keep_source(org, body)
        return web.json_response({"id": 1, "message": "Datasource added", "name": body["name"]})

    async def _get_source(self, request: web.Request) -> web.Response:
        return web.json_response(_found(self._inside(request, "Admin").sources, request, "Data source not found"))

    async def _update_source(self, request: web.Request) -> web.Response:
        org = self._inside(request, "Admin")
        _found(org.sources, request, "Data source not found")
        self._keep_source(org, await request.json())
        return web.json_response({"id": 1, "message": "Datasource updated"})

    def _keep_source(self, org: Organisation, body: Json) -> None:
        assert _UID.fullmatch(body["uid"])
        secret = body.pop("secureJsonData", {})
        org.secrets[body["uid"]] = org.secrets.get(body["uid"], {}) | secret
        fields = dict.fromkeys(org.secrets[body["uid"]], True)
        org.sources[body["uid"]] = body | {"orgId": org.id, "readOnly": False, "secureJsonFields": fields}

    async def _delete_source(self, request: web.Request) -> web.Response:
        org = self._inside(request, "Admin")
        _found(org.sources, request, "Data source not found")
        del org.sources[request.match_info["uid"]]
        return web.json_response({"message": "Data source deleted"})

    async def _list_folders(self, request: web.Request) -> web.Response:
        folders = self._inside(request, "Viewer").folders
        return web.json_response([{"uid": uid, "title": title} for uid, title in folders.items()])

    async def _create_folder(self, request: web.Request) -> web.Response:
        org, body = self._inside(request, "Editor"), await request.json()
        assert _UID.fullmatch(body["uid"])
        if body["uid"] in org.folders:
            raise Refused(412 if self.major < 13 else 409, "a folder with the same uid already exists")
        if body["title"] in org.folders.values():
            raise Refused(409, "a folder with the same name already exists in the current location")
        org.folders[body["uid"]] = body["title"]
        return web.json_response({"uid": body["uid"], "title": body["title"]})

    async def _get_folder(self, request: web.Request) -> web.Response:
        title = _found(self._inside(request, "Viewer").folders, request, "folder not found")
        return web.json_response({"uid": request.match_info["uid"], "title": title})

    async def _delete_folder(self, request: web.Request) -> web.Response:
        org, uid = self._inside(request, "Editor"), request.match_info["uid"]
        _found(org.folders, request, "folder not found")
        if any(rule["folderUID"] == uid for rule in org.rules.values()):
            raise Refused(400, "Folder cannot be deleted: folder is not empty")
        del org.folders[uid]
        org.dashboards = {key: one for key, one in org.dashboards.items() if one["meta"]["folderUid"] != uid}
        return web.json_response({"message": "Folder deleted"})

    # ------------------------------------------------------------------ dashboards

    async def _search(self, request: web.Request) -> web.Response:
        org = self._inside(request, "Viewer")
        there = set(org.dashboards) if self.major < 13 else org.indexed
        return web.json_response([{"uid": uid, "title": uid, "type": "dash-db"} for uid in sorted(there)])

    async def _get_dashboard(self, request: web.Request) -> web.Response:
        return web.json_response(_found(self._inside(request, "Viewer").dashboards, request, "Dashboard not found"))

    async def _save_dashboard(self, request: web.Request) -> web.Response:
        org, body = self._inside(request, "Editor"), await request.json()
        model = body["dashboard"]
        assert _UID.fullmatch(model["uid"])
        old = org.dashboards.get(model["uid"])
        if body["folderUid"] not in org.folders:
            raise Refused(400, "folder not found")
        if old and not body.get("overwrite") and model.get("version", 0) != old["dashboard"]["version"]:
            raise (
                Refused(412, "The dashboard has been changed by someone else")
                if self.major < 13
                else Refused(409, "Dashboard already exists. Use overwrite flag to update.")
            )
        version = self._store_dashboard(org, model, body["folderUid"], self._signed_in(request).login)
        return web.json_response({"status": "success", "uid": model["uid"], "version": version})

    def _store_dashboard(self, org: Organisation, model: Json, folder: str, by: str) -> int:
        old = org.dashboards.get(model["uid"])
        version = old["dashboard"]["version"] + 1 if old else 1
        kept = copy.deepcopy(model) | {"version": version, "id": len(org.dashboards) + 1}
        # from 12 on, who made a dashboard is not who updated it
        updated_by = by if old or self.major < 13 else "Anonymous"
        org.dashboards[model["uid"]] = {
            "dashboard": kept,
            "meta": {"version": version, "folderUid": folder, "updatedBy": updated_by},
        }
        return version

    async def _delete_dashboard(self, request: web.Request) -> web.Response:
        org = self._inside(request, "Editor")
        _found(org.dashboards, request, "Dashboard not found")
        del org.dashboards[request.match_info["uid"]]
        return web.json_response({"message": "Dashboard deleted"})

    # ------------------------------------------------------------------ alert rules

    async def _list_rules(self, request: web.Request) -> web.Response:
        return web.json_response(list(self._inside(request, "Viewer").rules.values()))

    async def _create_rule(self, request: web.Request) -> web.Response:
        org, rule = self._inside(request, "Admin"), await request.json()
        if rule["uid"] in org.rules:
            raise Refused(409, "rule with UID already exists")
        return web.json_response(self._keep_rule(org, rule, request), status=201)

    async def _update_rule(self, request: web.Request) -> web.Response:
        org, rule = self._inside(request, "Admin"), await request.json()
        _found(org.rules, request, "")
        return web.json_response(self._keep_rule(org, rule, request))

    def _keep_rule(self, org: Organisation, rule: Json, request: web.Request) -> Json:
        assert _UID.fullmatch(rule["uid"])
        if rule["folderUID"] not in org.folders:
            raise Refused(400, "invalid alert rule: folder does not exist")
        missing = {one["datasourceUid"] for one in rule["data"]} - {*org.sources, "__expr__"}
        if missing or rule["condition"] not in {one["refId"] for one in rule["data"]}:
            raise Refused(400, f"invalid alert rule: {sorted(missing)}")
        provenance = "" if "X-Disable-Provenance" in request.headers else "api"
        org.rules[rule["uid"]] = rule | {"id": 1, "orgID": org.id, "provenance": provenance}
        return org.rules[rule["uid"]]

    async def _delete_rule(self, request: web.Request) -> web.Response:
        self._inside(request, "Admin").rules.pop(request.match_info["uid"], None)
        return web.Response(status=204)


def _role(body: Json) -> str:
    if body["role"] not in ROLES:
        raise Refused(400, "Invalid role specified")
    return str(body["role"])


def _found(things: dict[str, Any], request: web.Request, message: str) -> Any:
    uid = request.match_info["uid"]
    if uid not in things:
        raise Refused(404, message)
    return things[uid]
