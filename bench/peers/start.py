"""Peers as subjects: found, started, and measured by counting what is in the InfluxDB that they write to."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from string import Template
from typing import ClassVar
from urllib.parse import urlsplit

from bench.children import BenchError, end
from bench.shape import FILTER
from bench.stores import InfluxDB
from tests.servers import Mosquitto, eventually, find

HERE = Path(__file__).parent
DATABASE = "telemetry"
LOOK = 0.25
GIVE_UP = 15.0
"""Seconds without a new point after which missing ones count as lost."""


class Peer(ABC):
    """A program that takes messages from the broker to one database of influxd. A `rig.Subject` while it runs."""

    name: ClassVar[str]

    def __init__(self, program: str, directory: Path, broker: Mosquitto, store: InfluxDB) -> None:
        self._program = program
        self._directory = directory
        self._broker = broker
        self._store = store
        self._process: asyncio.subprocess.Process | None = None
        self.stored = 0

    @classmethod
    @abstractmethod
    def found(cls) -> str | None:
        """Return the program's path, if it is installed."""

    @abstractmethod
    def prepare(self) -> tuple[list[str], dict[str, str]]:
        """Write its files. Return its arguments, and additions to its environment."""

    @property
    def pids(self) -> dict[str, int]:
        assert self._process is not None
        return {self.name: self._process.pid, **self._store.pids}

    @property
    def log(self) -> Path:
        return self._directory / f"{self.name}.log"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run until the block ends; it has subscribed when the block begins."""
        arguments, environment = self.prepare()
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(self._program, *arguments), stdout=log, stderr=log, cwd=self._directory, env=os.environ | environment
            )
        try:
            yield
        finally:
            await end(self._process)

    async def took(self, messages: int) -> int:
        """Wait until so many points are stored, or no more arrive. Return when, in ns of CLOCK_MONOTONIC."""
        last_ns = time.monotonic_ns()
        while self.stored < messages and time.monotonic_ns() - last_ns < GIVE_UP * 1e9:
            await asyncio.sleep(LOOK)
            if (count := await self._store.count(DATABASE)) > self.stored:
                self.stored, last_ns = count, time.monotonic_ns()
        if not self.stored:
            raise BenchError(f"{self.name} stored nothing:\n{self.log.read_text()[-2000:]}")
        return last_ns


class Plain(Peer):
    """`plain.py`, in the gateway's own Python."""

    name = "plain script"

    @classmethod
    def found(cls) -> str | None:
        return sys.executable

    def prepare(self) -> tuple[list[str], dict[str, str]]:
        influx = self._store.influx
        assert influx is not None
        return [str(HERE / "plain.py"), str(self._broker.port), influx.url, influx.org, influx.token, DATABASE], {}


class Telegraf(Peer):
    """Telegraf, writing to influxd without the front."""

    name = "telegraf"

    @classmethod
    def found(cls) -> str | None:
        return os.environ.get("BENCH_TELEGRAF") or find("telegraf")

    def prepare(self) -> tuple[list[str], dict[str, str]]:
        words = {"BROKER_PORT": str(self._broker.port), "INFLUXDB_URL": self._store.url, "DATABASE": DATABASE}
        return ["--config", str(HERE / "telegraf.conf")], words


class NodeRed(Peer):
    """Node-RED with node-red-contrib-influxdb, writing to influxd without the front."""

    name = "node-red"

    @classmethod
    def found(cls) -> str | None:
        return os.environ.get("BENCH_NODE_RED") or find("node-red")

    def prepare(self) -> tuple[list[str], dict[str, str]]:
        words = {
            "BROKER_PORT": str(self._broker.port),
            "INFLUXDB_PORT": str(urlsplit(self._store.url).port),
            "DATABASE": DATABASE,
        }
        flows = Template((HERE / "flows.json").read_text()).safe_substitute(words)
        (self._directory / "flows.json").write_text(flows)
        settings = "module.exports = {httpAdminRoot: false, httpNodeRoot: false, uiHost: '127.0.0.1', uiPort: 0}"
        (self._directory / "settings.js").write_text(settings)
        arguments = ["--userDir", str(self._directory), "--settings", str(self._directory / "settings.js")]
        return [*arguments, "flows.json"], {}


PEERS: tuple[type[Peer], ...] = (Plain, Telegraf, NodeRed)


async def subscribed(broker: Mosquitto) -> None:
    """Wait until the broker's log has a subscription."""
    await eventually(lambda: FILTER in broker.log, within=60, every=0.1, says="the peer has subscribed")
