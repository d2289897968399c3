"""A gateway as an operator runs it: a directory of configuration, and `python -m gateway run` as a whole process."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
from ruamel.yaml import YAML

from bench import procfs
from bench.children import ROOT, BenchError, end
from bench.shape import MEASUREMENT, Shape
from gateway.model import Counts
from gateway.state.ledger import balance
from tests.servers import free_port

OPERATOR_TOKEN = "bench-operator"  # noqa: S105 - of a gateway that only this machine reaches, for a minute
STARTS_WITHIN = 60.0
STOPS_WITHIN = 60.0
STANDS_STILL = 60.0
POLL = 0.02

QUOTA = {"messages": "10000000/s", "burst": 10_000_000, "devices": 100_000, "series": 1_000_000, "payload": "1MiB"}


@dataclass(frozen=True, slots=True)
class Influx:
    """An InfluxDB 2, or a server that speaks its API."""

    url: str
    org: str
    token: str
    bucket: str = "{startup}"


def nowhere() -> Influx:
    """Return an address where nobody listens, so that everything stays in the journal."""
    return Influx(f"http://127.0.0.1:{free_port()}", "testbed", "bench-token")


class Gateway:
    """A gateway with its directory; it can be started again with another store."""

    def __init__(
        self, directory: Path, broker: str, shape: Shape, *, influx: Influx | None, in_flight: int, workers: int = 0
    ) -> None:
        self._directory = directory
        self._broker = broker
        self._shape = shape
        self._in_flight = in_flight
        self._workers = workers
        self._influx = influx
        self._process: asyncio.subprocess.Process | None = None
        self._readers: dict[Path, sqlite3.Connection] = {}
        self.state = directory / "state"
        self.url = f"http://127.0.0.1:{free_port()}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> Path:
        return self._directory / "gateway.log"

    def use(self, influx: Influx | None) -> None:
        """Use another store from the next start on; None is SQLite."""
        self._influx = influx

    async def start(self) -> None:
        """Write the configuration, start the gateway, and wait until it accepts messages."""
        await asyncio.to_thread(self._write)
        more = ["--workers", str(self._workers)] if self._workers else []
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "gateway", "run", "--config", str(self.config), *more),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env=self._environment(),
            )
        await self._ready()

    async def stop(self) -> None:
        """End with SIGTERM, and with SIGKILL if that takes too long."""
        for reader in self._readers.values():
            reader.close()
        self._readers = {}
        if self._process is not None:
            await end(self._process, STOPS_WITHIN)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # -------------------------------------------------------------- its state on disk

    def ledgers(self) -> list[sqlite3.Connection]:
        """Open its state databases, one for each worker, for reading."""
        for path in self.state.rglob("gateway.db"):
            if path not in self._readers:
                uri = f"{path.absolute().as_uri()}?mode=ro"
                self._readers[path] = sqlite3.connect(
                    uri, uri=True, timeout=10, isolation_level=None, check_same_thread=False
                )
        return list(self._readers.values())

    def count(self, what: str) -> int:
        """Return a column of the ledger, of all startups and workers: `received`, `accepted`, `stored`, …"""
        query = f"SELECT coalesce(sum({what}), 0) FROM ledger WHERE startup LIKE 'lab-%'"  # noqa: S608 - our own word
        return sum(connection.execute(query).fetchone()[0] for connection in self.ledgers())

    def balance(self) -> Counts:
        """Return the whole ledger, of all startups and workers."""
        return sum((counts for one in self.ledgers() for counts in balance(one).values()), Counts())

    def balanced(self) -> bool:
        return all(counts.balanced for one in self.ledgers() for counts in balance(one).values())

    def journal_bytes(self) -> int:
        """Return the bytes of line protocol that wait in the journal."""
        query = "SELECT coalesce(sum(length(lines)), 0) FROM journal"
        return sum(int(connection.execute(query).fetchone()[0]) for connection in self.ledgers())

    async def until(self, what: str, number: int) -> int:
        """Wait until a column of the ledger reaches a number. Return when that was, in ns of CLOCK_MONOTONIC.

        Raises:
            BenchError: it no longer changes, or the gateway has ended.
        """
        before, moved = -1, time.monotonic()
        while (count := await asyncio.to_thread(self.count, what)) < number:
            before, moved = (count, time.monotonic()) if count != before else (before, moved)
            if self._ended or time.monotonic() - moved > STANDS_STILL:
                tail = self.log.read_text()[-2000:]
                raise BenchError(f"the gateway's ledger: {what} is {count:,}, not {number:,}\n{tail}")
            await asyncio.sleep(POLL)
        return time.monotonic_ns()

    def cpu_seconds(self) -> float:
        return procfs.cpu_seconds(self.pid)

    def resident_mib(self) -> float:
        return procfs.resident_mib(self.pid)

    # -------------------------------------------------------------- configuration

    @property
    def config(self) -> Path:
        return self._directory / "config"

    @property
    def _ended(self) -> bool:
        return self._process is None or self._process.returncode is not None

    def _write(self) -> None:
        (self.config / "startups").mkdir(parents=True, exist_ok=True)
        yaml = YAML()
        for number, slug in enumerate(self._shape.slugs()):
            file = {
                "name": slug,
                "retention": "100y",
                "quota": QUOTA,
                "topics": {MEASUREMENT: self._shape.rule(number)},
            }
            yaml.dump(file, self.config / "startups" / f"{slug}.yaml")
        yaml.dump(self._settings(), self.config / "gateway.yaml")

    def _settings(self) -> dict[str, Any]:
        return {
            "state_dir": "../state",
            "mqtt": {"url": self._broker, "in_flight": self._in_flight},
            "store": _store(self._influx),
            "journal": {"max_size": "64GiB", "max_readings": 1_000_000_000},
            "http": {"listen": self.url.removeprefix("http://"), "console": False},
            "drain": {"stop_within": "100ms"},
            "feeds": {"mqtt": False},
            "log": {"level": "warning", "format": "json"},
        }

    def _environment(self) -> dict[str, str]:
        token = self._influx.token if self._influx else ""
        return os.environ | {"GATEWAY_OPERATOR_TOKEN": OPERATOR_TOKEN, "GATEWAY_INFLUXDB_TOKEN": token}

    async def _ready(self) -> None:
        deadline = time.monotonic() + STARTS_WITHIN
        async with aiohttp.ClientSession() as http:
            while not await _answers(http, f"{self.url}/readyz"):
                if time.monotonic() > deadline or self._ended:
                    raise BenchError(f"the gateway does not accept messages; see {self.log}\n{self.log.read_text()}")
                await asyncio.sleep(POLL)


def _store(influx: Influx | None) -> dict[str, Any]:
    if influx is None:
        return {"kind": "sqlite"}
    return {"kind": "influxdb", "influxdb": {"url": influx.url, "org": influx.org, "bucket": influx.bucket}}


async def _answers(http: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with http.get(url) as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False
