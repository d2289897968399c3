"""Test bed of one scenario: a broker, a store, a gateway that is started again, devices, and the wires between them."""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from gateway.runtime.descriptors import raise_descriptor_limit
from tests.crash.fleet import Fleet
from tests.crash.keeper import Keeper
from tests.crash.points import Point, reached
from tests.crash.preload import Faults
from tests.crash.readback import FAILED, Reader
from tests.crash.shape import Shape, merged
from tests.crash.wires import LyingFront, Wire
from tests.harness.check import Check
from tests.running import TOKENS, GatewayProcess, write_config
from tests.servers import Influxd, Mosquitto, ServerFailed, eventually, free_port

STARTUPS = tuple(TOKENS)
LIMITS = ("NOFILE", "FSIZE", "AS")


@dataclass(frozen=True, slots=True)
class Scale:
    """Size of a scenario: messages a second of all devices, messages published after the fault, a share that applies
    to counts and seconds, and seconds within which all must have arrived."""

    rate: float = 1500.0
    after: int = 600
    share: float = 1.0
    patience: float = 45.0


SHORT = Scale(rate=800.0, after=150, share=0.4, patience=30.0)


class Bed:
    """Everything listens on the loopback interface, and keeps its files in one directory."""

    def __init__(self, directory: Path, shape: Shape, scale: Scale, seed: str) -> None:
        self.directory = directory
        self.shape = shape
        self.scale = scale
        self.chance = Random(seed)
        self.checks: list[Check] = []
        self.broker = Mosquitto(directory)
        self.wire = Wire.before(self.broker)
        tokens = {f"GATEWAY_TOKEN_{slug.upper()}": token for slug, token in TOKENS.items()}
        self.gateway = GatewayProcess(directory / "config", {**tokens, "GATEWAY_INFLUXDB_TOKEN": "test-token"})
        self.keeper = Keeper(self.gateway)
        self.reader = Reader(free_port())
        self.fleet = Fleet(self.broker, STARTUPS, scale.rate)
        self.state = directory / "state"
        self.stalls = 0.0
        self._faults: Faults | None = None
        self._store: tuple[Influxd, LyingFront, Wire] | None = None
        self._tokens = directory / "tokens"

    # -------------------------------------------------------------- for scenarios

    def some(self, count: float) -> int:
        """Return a number of times, by the scale."""
        return max(1, round(count * self.scale.share))

    async def lasts(self, seconds: float) -> None:
        """Let a fault last, by the scale, while devices publish."""
        await asyncio.sleep(seconds * self.scale.share)

    def check(self, what: str, good: bool) -> None:
        """Add a verdict of the scenario's own."""
        self.checks.append(Check(what, bool(good)))

    @property
    def influxd(self) -> Influxd:
        assert self._store is not None
        return self._store[0]

    @property
    def front(self) -> LyingFront:
        """Return InfluxDB's API, which can hang, fail and lie."""
        assert self._store is not None
        return self._store[1]

    @property
    def store_wire(self) -> Wire:
        """Return the wire to InfluxDB."""
        assert self._store is not None
        return self._store[2]

    @property
    def faults(self) -> Faults:
        assert self._faults is not None
        return self._faults

    @property
    def reached(self) -> int:
        """How many times the gateway was killed at its point."""
        return reached(self._tokens)

    async def point(self, times: int) -> None:
        """Wait until the gateway was killed at its point so many times."""
        await eventually(lambda: self.reached >= times, every=0.05, says="the gateway reaches its point")

    async def pids(self) -> list[int]:
        """Return the process ids of the gateway and its workers."""
        return [self.gateway.pid, *self.gateway.workers().values()]

    async def limit(self, name: str, value: int) -> list[tuple[int, tuple[int, int]]]:
        """Limit a resource of the running gateway; return the limits before, by process. The hard limits stay, so that
        it can be undone."""
        assert name in LIMITS
        kind = getattr(resource, f"RLIMIT_{name}")
        before = [(pid, resource.prlimit(pid, kind)) for pid in await self.pids()]
        for pid, (_, hard) in before:
            resource.prlimit(pid, kind, (value, hard))
        return before

    async def unlimit(self, name: str, before: list[tuple[int, tuple[int, int]]]) -> None:
        """Set the limits back, of those processes that still run."""
        for pid, limits in before:
            with suppress(ProcessLookupError):
                resource.prlimit(pid, getattr(resource, f"RLIMIT_{name}"), limits)

    async def connected(self) -> None:
        """Wait until the gateway answers, and its sessions work."""

        async def is_ready() -> bool:
            found = await self.reader.ready()
            return bool(found.get("ready")) and bool(found["parts"]["sessions"]["ok"])

        await eventually(is_ready, within=60, every=0.1, says="the gateway is connected")

    async def taken(self) -> None:
        """Wait until the gateway has received all that the broker acknowledged, and stored it."""
        await eventually(self.is_drained, every=0.1, says="everything is drained")

    async def is_drained(self) -> bool:
        """Return whether as many records are stored or rejected as the broker acknowledged, and none waits."""
        try:
            ledgers = {slug: await self.reader.ledger(slug) for slug in STARTUPS}
        except FAILED:
            return False
        return all(
            one.received >= len(self.fleet.acknowledged(slug)) and not one.journaled for slug, one in ledgers.items()
        )

    def logged(self, since: int = 0) -> list[dict[str, Any]]:
        """Return the lines of the gateway's log, from a position on."""
        lines = []
        for line in self.gateway.log[since:].splitlines():
            with suppress(json.JSONDecodeError):
                lines.append(json.loads(line))
        return lines

    def complains(self, since: int) -> bool:
        """Return whether the gateway has logged a warning or an error from a position on, or said why it ends."""
        return "\nerror: " in self.gateway.log[since:] or any(
            one.get("level") in ("warning", "error", "critical") for one in self.logged(since)
        )

    def ballast(self, leave: int) -> None:
        """Fill the state's own file system until so many bytes are free; `relieve` ends it."""
        path = self.state / "ballast"
        found = subprocess.run(["df", "--output=avail", "-B1", str(self.state)], capture_output=True, check=True)
        with path.open("wb") as file, suppress(OSError):
            file.write(bytes(max(0, int(found.stdout.split()[-1]) - leave)))

    def relieve(self) -> None:
        (self.state / "ballast").unlink(missing_ok=True)

    # -------------------------------------------------------------- servers

    async def start(self, stack: AsyncExitStack, needs: Any) -> None:
        """Start everything; `needs` is the scenario's."""
        stack.push_async_callback(self.reader.close)
        if needs.disk_mib:
            _mount(self.state, needs.disk_mib, stack)
        await stack.enter_async_context(self.broker)
        await stack.enter_async_context(self.wire)
        settings: dict[str, Any] = {
            "mqtt": {"url": self.wire.url, "protocol": self.shape.protocol, "keep_alive": "5s"},
            "http": {"listen": f"127.0.0.1:{self.reader.port}", "console": False},
            "drain": {"interval": "20ms", "max_backoff": "1s"},
        }
        if self.shape.store == "influxdb":
            settings["store"] = await self._influxdb(stack)
        settings = merged(settings, dict(needs.settings))
        write_config(self.gateway.config, settings["mqtt"]["url"], **settings)
        self.keeper.options = self.shape.options
        self._prepare(needs.preload, needs.point, needs.kills)
        stack.push_async_callback(self.keeper.end)
        self.keeper.start()
        await stack.enter_async_context(self.fleet)

    def _prepare(self, preload: bool, point: Point | None, kills: int) -> None:
        env: Mapping[str, str] = {}
        if preload:
            self._faults = Faults(self.directory / "faults", self.state)
            env = self._faults.env
        if point is not None:
            env = {**env, **point.env(self.chance, self._tokens, kills)}
        self.gateway.env.update(env)

    async def _influxdb(self, stack: AsyncExitStack) -> dict[str, Any]:
        influxd = await stack.enter_async_context(Influxd(self.directory))
        front = await stack.enter_async_context(LyingFront(influxd, STARTUPS))
        wire = await stack.enter_async_context(Wire.before(front))
        self._store = influxd, front, wire
        return {"kind": "influxdb", "influxdb": {"url": wire.url, "org": front.org, "timeout": "3s"}}

    async def heal(self) -> None:
        """End all faults that a bed can end, and start what is down."""
        self.wire.heal()
        if self._faults is not None:
            self._faults.clear()
        if self._store is not None:
            self.front.lie = None
            self.store_wire.rate = None
            self.store_wire.heal()
            if not self.influxd.running:
                await self.influxd.start()
        if not self.broker.running:
            await self.broker.start()
        self.keeper.start()

    async def watch(self) -> None:
        """Note the longest time for which nothing was stored, while readings waited for it."""
        clock = asyncio.get_running_loop().time
        since, before = clock(), 0
        while True:
            await asyncio.sleep(0.2)
            with suppress(*FAILED):
                ledgers = [await self.reader.ledger(slug) for slug in STARTUPS]
                done = sum(one.stored + one.refused for one in ledgers)
                if done != before or done >= self.fleet.good:
                    since, before = clock(), done
            self.stalls = max(self.stalls, clock() - since)


def _mount(directory: Path, mib: int, stack: AsyncExitStack) -> None:
    """Mount a file system of its own for the state; ServerFailed where that is not permitted."""
    directory.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=700", "gateway-crash", str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ServerFailed(f"a file system of its own for the state needs root: {done.stderr.strip()}")
    stack.callback(lambda: subprocess.run(["umount", "-l", str(directory)], check=False))


@asynccontextmanager
async def opened(directory: Path, shape: Shape, scale: Scale, seed: str, needs: Any) -> AsyncIterator[Bed]:
    """Start everything, wait until the gateway is connected, and let the devices publish."""
    raise_descriptor_limit()  # for connections by the thousand
    bed = Bed(directory, shape, scale, seed)
    async with AsyncExitStack() as stack:
        await bed.start(stack, needs)
        await bed.connected()
        watching = asyncio.create_task(bed.watch())
        try:
            bed.fleet.publish()
            await bed.fleet.more(bed.some(200))
            yield bed
        finally:
            watching.cancel()
            await asyncio.wait((watching,))
