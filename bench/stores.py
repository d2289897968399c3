"""Stores at the end of the way: SQLite in the gateway's own state, or an InfluxDB.

InfluxDB is Debian's influxd 1.6.7 behind a front, or the InfluxDB 2 that BENCH_INFLUXDB_URL, …_TOKEN and …_ORG name.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import aiohttp

from bench.children import BenchError, Helper
from bench.gateway_process import Influx
from bench.options import StoreKind
from bench.shape import MEASUREMENT, Shape
from tests.servers import Influxd, find

BUCKET = "bench-{startup}"


class Store(Protocol):
    """A store of readings. `influx` is for the gateway's settings; None is SQLite. `pids` are processes by name."""

    influx: Influx | None
    pids: dict[str, int]

    async def points(self, shape: Shape) -> int:
        """Return how many readings it has, by its own count."""
        ...

    def looked_at(self, slug: str) -> dict[str, Any]:
        """Return how `bench.prober` can look into it."""
        ...


@asynccontextmanager
async def opened(kind: StoreKind, directory: Path, shape: Shape) -> AsyncIterator[Store]:
    """Provide an empty store; `directory` is the gateway's."""
    if kind == "sqlite":
        yield Sqlite(directory / "state")
    elif url := os.environ.get("BENCH_INFLUXDB_URL"):
        async with real(url, shape) as store:
            yield store
    else:
        async with debians(directory, shape) as store:
            yield store


class Sqlite:
    """Embedded store, in the gateway's state directory."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self.influx: Influx | None = None
        self.pids: dict[str, int] = {}

    async def points(self, shape: Shape) -> int:
        return await asyncio.to_thread(lambda: sum(map(self._count, shape.slugs())))

    def looked_at(self, slug: str) -> dict[str, Any]:
        return {"sqlite": str(self._state / "store" / f"{slug}.db")}

    def _count(self, slug: str) -> int:
        return sum(map(_rows, self._state.rglob(f"{slug}.db")))


def _rows(path: Path) -> int:
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=10)) as connection:
        return int(connection.execute("SELECT count(*) FROM m1").fetchone()[0])


@dataclass
class InfluxDB:
    """An InfluxDB, queried in InfluxQL at `url` with `headers`."""

    influx: Influx | None
    pids: dict[str, int]
    url: str
    headers: dict[str, str]
    bucket: str = "{startup}"

    async def points(self, shape: Shape) -> int:
        return sum([await self.count(self.bucket.format(startup=slug)) for slug in shape.slugs()])

    async def count(self, database: str) -> int:
        """Return the number of readings in a database."""
        rows = await self.rows(database, f"SELECT count(sequence) FROM {MEASUREMENT}")  # noqa: S608 - our own word
        return int(rows[0][1]) if rows else 0

    async def rows(self, database: str, query: str) -> list[list[Any]]:
        """Return the rows of a query."""
        asked = {"db": database, "q": query, "epoch": "ns"}
        async with (
            aiohttp.ClientSession(headers=self.headers) as http,
            http.post(f"{self.url}/query", data=asked) as answer,
        ):
            result = (await answer.json(content_type=None))["results"][0]
        if "error" in result:
            raise BenchError(f"InfluxDB: {result['error']}")
        return [row for series in result.get("series", ()) for row in series["values"]]

    def looked_at(self, slug: str) -> dict[str, Any]:
        return {"influxdb": self.url, "headers": self.headers, "database": self.bucket.format(startup=slug)}


@asynccontextmanager
async def debians(directory: Path, shape: Shape, more: tuple[str, ...] = ()) -> AsyncIterator[InfluxDB]:
    """Run influxd 1.6.7 and its front, with a bucket for each startup, and `more`."""
    need("influxd")
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(Influxd(directory))
        buckets = [*shape.slugs(), *more]
        front = await stack.enter_async_context(Helper("front", {"engine": engine.url, "buckets": buckets}))
        influx = Influx(**front.started)
        yield InfluxDB(influx, {"influxd": engine.pid, "front": front.pid}, engine.url, {})


@asynccontextmanager
async def real(url: str, shape: Shape) -> AsyncIterator[InfluxDB]:
    """Use an InfluxDB 2 that already runs; its buckets are created here, and deleted at the end."""
    org, token = os.environ.get("BENCH_INFLUXDB_ORG", "testbed"), os.environ["BENCH_INFLUXDB_TOKEN"]
    headers = {"Authorization": f"Token {token}"}
    async with aiohttp.ClientSession(url, headers=headers, raise_for_status=True) as http:
        async with http.get("/api/v2/orgs", params={"org": org}) as answer:
            org_id = (await answer.json())["orgs"][0]["id"]
        made = [await _make_bucket(http, org_id, BUCKET.format(startup=slug)) for slug in shape.slugs()]
        try:
            yield InfluxDB(Influx(url, org, token, BUCKET), {}, url, headers, BUCKET)
        finally:
            for bucket in made:
                await http.delete(f"/api/v2/buckets/{bucket}")


async def _make_bucket(http: aiohttp.ClientSession, org_id: str, name: str) -> str:
    async with http.post("/api/v2/buckets", json={"orgID": org_id, "name": name, "retentionRules": []}) as answer:
        return str((await answer.json())["id"])


def need(binary: str) -> None:
    """Check that a program is installed.

    Raises:
        BenchError: it is not.
    """
    if find(binary) is None:
        raise BenchError(f"{binary} is not installed: run `make servers`")
