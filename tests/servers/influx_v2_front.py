"""As much of InfluxDB 2's HTTP API as the gateway uses, in front of a real influxd 1.6.7.

The answers follow InfluxDB 2.x's sources: status, `{"code": …, "message": …}`, X-Platform-Error-Code.
What differs from InfluxDB 2, because the engine is 1.6.7:

- A body with a line that cannot be parsed: both answer 400, but here its good lines are written all the
  same, where InfluxDB 2 writes nothing. With a type conflict in the same body the engine names only that,
  so that the answer is 422 here and 400 there.
- A string field over 1,048,576 bytes is stored here; InfluxDB 2 answers 422.
- A point outside the retention is 422 in both, with another wording.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp import web

from tests.servers.influx_v2_answers import Refused, Unanswered, answer_errors, as_v2
from tests.servers.influxd import Influxd
from tests.servers.processes import LOOPBACK, free_port

ENGINE_PRECISION = {"ns": "ns", "us": "u", "ms": "ms", "s": "s"}
VERSION = "v2.9.1"
QUERY_PARAMETERS = ("db", "rp", "q", "epoch", "chunked", "chunk_size", "pretty", "params")


@dataclass(slots=True)
class BucketCounts:
    """Counts of one bucket: writes requested, writes answered 204, and the lines in the latter."""

    asked: int = 0
    writes: int = 0
    lines: int = 0


class InfluxV2Front:
    """`async with InfluxV2Front(influxd, buckets=["acme"]) as influx: ... influx.url, .org, .token`.

    One token reads and writes every bucket; a bucket `foo` is influxd's database `foo`. While influxd is
    down each request ends in a connection that closes without an answer. `counts["acme"]` counts what came.
    """

    def __init__(
        self, influxd: Influxd, buckets: Sequence[str], *, org: str = "testbed", token: str = "test-token"
    ) -> None:
        self.port = free_port()
        self.org = org
        self.token = token
        self.counts: defaultdict[str, BucketCounts] = defaultdict(BucketCounts)
        self._influxd = influxd
        self._wanted = list(buckets)
        self._buckets: set[str] = set()
        self._planned: list[tuple[str | None, Refused]] = []
        self._unanswered = 0
        self._foreign: tuple[int, str] | None = None
        self._hanging: dict[str, asyncio.Event] = {}

    @property
    def url(self) -> str:
        """Where it listens: scheme, host and port, no slash at the end."""
        return f"http://{LOOPBACK}:{self.port}"

    def answer_next(
        self, count: int, status: int, *, retry_after: int | None = None, bucket: str | None = None
    ) -> None:
        """Answer the next `count` writes (to `bucket` only, if given) with `status`, writing nothing.

        `status` is 429, 500 or 503; `retry_after` the Retry-After header in seconds, absent when None.
        """
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        self._planned += [(bucket, Refused(status, HTTPStatus(status).phrase.lower(), headers))] * count

    @contextmanager
    def hidden_by(self, status: int, text: str) -> Iterator[None]:
        """Answer each write as a proxy in front would, writing nothing, until the block ends."""
        self._foreign = status, text
        try:
            yield
        finally:
            self._foreign = None

    @contextmanager
    def hang(self, bucket: str) -> Iterator[None]:
        """Leave each write to `bucket` without an answer until the block ends; then they are written."""
        released = self._hanging[bucket] = asyncio.Event()
        try:
            yield
        finally:
            del self._hanging[bucket]
            released.set()

    def lose_next_answers(self, count: int) -> None:
        """Write what the next `count` writes bring, then close the connection without an answer."""
        self._unanswered += count

    async def create_bucket(self, name: str, *, retention: str = "INF") -> None:
        """Add a bucket; `retention` is an InfluxQL duration of an hour or more, such as `7d`."""
        statement = f'CREATE DATABASE "{name}" WITH DURATION {retention}'
        async with self._client.post(f"{self._influxd.url}/query", data={"q": statement}) as answer:
            answer.raise_for_status()
        self._buckets.add(name)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opened:
            connector = aiohttp.TCPConnector(force_close=True)  # no stale connection after a restart
            self._client = await opened.enter_async_context(aiohttp.ClientSession(connector=connector))
            for name in self._wanted:
                await self.create_bucket(name)
            runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=1.0)
            opened.push_async_callback(runner.cleanup)
            await runner.setup()
            await web.TCPSite(runner, LOOPBACK, self.port).start()
            self._opened = opened.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._opened.aclose()

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=0, middlewares=[answer_errors])
        app.router.add_post("/api/v2/write", self._write)
        app.router.add_route("*", "/query", self._query)
        app.router.add_get("/health", self._health)
        app.router.add_get("/ping", self._ping)
        return app

    async def _write(self, request: web.Request) -> web.StreamResponse:
        self._authorize(request)
        bucket, precision = self._write_parameters(request)
        counts = self.counts[bucket]
        counts.asked += 1
        if self._foreign is not None:
            status, text = self._foreign
            return web.Response(status=status, text=text, content_type="text/html", headers={"Server": "nginx/1.22.1"})
        self._refuse_as_planned(bucket)
        if hanging := self._hanging.get(bucket):
            await hanging.wait()
        body = await request.read()
        if not body:
            raise Refused(400, "writing requires points")
        await self._write_to_engine(bucket, precision, body)
        counts.writes += 1
        counts.lines += sum(1 for line in body.split(b"\n") if line.strip())
        if self._unanswered:
            self._unanswered -= 1
            raise Unanswered
        return web.Response(status=204)

    def _refuse_as_planned(self, bucket: str) -> None:
        for planned in self._planned:
            only, refused = planned
            if only in (None, bucket):
                self._planned.remove(planned)
                raise refused

    def _write_parameters(self, request: web.Request) -> tuple[str, str]:
        """Return the bucket and the engine's name of the precision, checked in the order that InfluxDB 2 checks."""
        precision = ENGINE_PRECISION.get(request.query.get("precision", "") or "ns")
        if precision is None:
            raise Refused(400, "invalid precision; valid precision units are ns, us, ms, and s")
        bucket, org = request.query.get("bucket", ""), request.query.get("org", "")
        if not bucket:
            raise Refused(404, "bucket not found")
        if org != self.org:
            raise Refused(404, f'organization name "{org}" not found')
        if bucket not in self._buckets:
            raise Refused(404, f'bucket "{bucket}" not found')
        return bucket, precision

    async def _write_to_engine(self, bucket: str, precision: str, body: bytes) -> None:
        url, params = f"{self._influxd.url}/write", {"db": bucket, "precision": precision}
        async with self._client.post(url, params=params, data=body) as answer:
            if answer.status != 204:
                raise as_v2(answer.status, (await answer.json())["error"])

    async def _query(self, request: web.Request) -> web.StreamResponse:
        self._authorize(request)
        asked = {**request.query, **{k: v for k, v in (await request.post()).items() if isinstance(v, str)}}
        if (db := asked.get("db", "")) not in self._buckets:
            error = f"database not found: {db}" if db else "database name required"
            return web.json_response({"results": [{"statement_id": 0, "error": error}]})
        data = {key: asked[key] for key in QUERY_PARAMETERS if key in asked}
        headers = {"Accept": request.headers.get("Accept", "application/json")}
        async with self._client.post(f"{self._influxd.url}/query", data=data, headers=headers) as answer:
            if answer.status != 200:
                error = str((await answer.json())["error"])
                raise Refused(answer.status, error.replace("error parsing", "failed to parse", 1))
            response = web.StreamResponse(headers={"Content-Type": answer.headers["Content-Type"]})
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
        await response.write_eof()
        return response

    async def _health(self, request: web.Request) -> web.StreamResponse:
        await self._engine_answers()
        message = "ready for queries and writes"
        body = {"name": "influxdb", "message": message, "status": "pass", "checks": [], "version": VERSION}
        return web.json_response(body)

    async def _ping(self, request: web.Request) -> web.StreamResponse:
        await self._engine_answers()
        return web.Response(status=204, headers={"X-Influxdb-Build": "OSS", "X-Influxdb-Version": VERSION})

    async def _engine_answers(self) -> None:
        async with self._client.get(f"{self._influxd.url}/ping") as answer:
            answer.raise_for_status()

    def _authorize(self, request: web.Request) -> None:
        if request.headers.get("Authorization") != f"Token {self.token}":
            raise Refused(401, "unauthorized access")
