"""Demo: the embedded broker, the gateway with SQLite, and the simulated fleet.

The fleet is a process of its own. It meets the gateway over MQTT only, as real devices do.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from gateway.api.auth import Tokens
from gateway.api.server import HttpServer
from gateway.config import Config
from gateway.errors import DemoFailed
from gateway.model import UNROUTED, Counts
from gateway.mqtt.embedded_broker import EmbeddedBroker
from gateway.provision.handout import Endpoints
from gateway.runtime.gateway import Gateway
from gateway.state import ledger
from gateway.state.database import FILE_NAME, read_only
from gateway.state.lock import locked

CONNECT_WITHIN = 15.0
FLEET_ENDS_WITHIN = 10.0


@dataclass(frozen=True, slots=True)
class Access:
    """Demo's addresses, and the tokens of its startups and operators."""

    endpoints: Endpoints
    tokens: dict[str, str]
    operator: str


@dataclass(frozen=True, slots=True)
class Fleet:
    """Number of simulated devices of each startup, and how many messages each of them sends per second."""

    devices: int
    rate: float


@dataclass(frozen=True, slots=True)
class Report:
    """A ledger at one moment, by startup, and how many devices have been seen."""

    balance: dict[str, Counts]
    devices: int

    @property
    def total(self) -> Counts:
        return Counts.total(self.balance)

    @property
    def is_good(self) -> bool:
        """True if the ledger balances, nothing waits, and something of every startup is stored."""
        startups = {slug: counts for slug, counts in self.balance.items() if slug != UNROUTED}
        every = all(counts.balanced for counts in self.balance.values())
        return every and not self.total.journaled and bool(startups) and all(c.stored for c in startups.values())

    def as_json(self) -> dict[str, object]:
        total = self.total
        startups = {slug: counts.as_json() for slug, counts in self.balance.items() if slug != UNROUTED}
        balanced = all(counts.balanced for counts in self.balance.values())
        return {
            "startups": sum(1 for counts in self.balance.values() if counts.stored),
            "devices": self.devices,
            "received": total.received,
            "accepted": total.accepted,
            "rejected": total.rejected,
            "stored": total.stored,
            "journaled": total.journaled,
            "refused": total.refused,
            "balanced": balanced,
            "by_startup": startups,
        }


async def run(
    config: Config,
    lasts: float | None,
    stop: asyncio.Event,
    opened: Callable[[Access], None],
    grew: Callable[[Report, float], None],
    fleet: Fleet,
) -> Report:
    """Run for `lasts` seconds, or until `stop`; then drain.

    `opened` gets the addresses and tokens; `grew` gets, every second, the ledger and the seconds that have passed.

    Raises:
        DemoFailed: a part could not start, or the fleet ended early.
    """
    async with EmbeddedBroker() as broker:
        config = embedded(config, broker.url)
        tokens = {startup.slug: secrets.token_urlsafe(9) for startup in config.startups}
        operator = secrets.token_urlsafe(9)
        gateway = Gateway(config, Tokens(tokens, operator))
        async with asyncio.TaskGroup() as tasks:
            server: asyncio.Future[HttpServer] = asyncio.get_running_loop().create_future()
            running = tasks.create_task(gateway.run(server.set_result), name="gateway")
            opened(Access(Endpoints(broker.url, (await server).url), tokens, operator))
            await _connected(gateway)
            process = await _start(fleet, broker.url)
            try:
                await _watch(gateway, process, lasts, stop, grew)
                await end(process)
                await _settled(gateway)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                report = await _report(gateway)
                gateway.stop()
            await running
        # The counts are final only on disk, once the gateway has stopped.
        balance = await asyncio.to_thread(read_only, config.state_dir / FILE_NAME, ledger.balance)
        return Report(report.balance | balance, report.devices)


def embedded(config: Config, broker: str) -> Config:
    """Return the configuration with everything embedded, in a state directory that each demo clears first.

    Raises:
        StateUnavailable: another demo is running in it.
    """
    state_dir = (config.state_dir / "demo").resolve()
    if (state_dir / FILE_NAME).exists():
        with locked(state_dir):
            shutil.rmtree(state_dir)
    settings = config.settings
    embedded = settings.store.model_copy(update={"kind": "sqlite"})
    settings = settings.model_copy(
        update={
            "state_dir": state_dir,
            "mqtt": settings.mqtt.model_copy(update={"url": broker, "protocol": "3.1.1", "username": None}),
            "store": embedded,
            "stores": dict.fromkeys(settings.stores, embedded),
            "http": settings.http.model_copy(update={"listen": _listen(settings.http.port)}),
        }
    )
    return config.model_copy(update={"settings": settings})


def _listen(port: int) -> str:
    """Return the usual port on loopback, or a free one if it is taken."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return "127.0.0.1:0"
    return f"127.0.0.1:{port}"


async def _connected(gateway: Gateway) -> None:
    """Wait until the gateway has subscribed, so that the demo loses no QoS 0 message of its devices."""
    give_up = time.monotonic() + CONNECT_WITHIN
    while not gateway.engine.sessions.state.connected:
        if time.monotonic() > give_up:
            raise DemoFailed(f"the gateway did not reach the embedded broker: {gateway.engine.sessions.state.problem}")
        await asyncio.sleep(0.05)


async def _start(fleet: Fleet, broker: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "devices",
        "--broker",
        broker,
        "--devices",
        str(fleet.devices),
        "--rate",
        str(fleet.rate),
        "--quiet",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
    )


async def _watch(
    gateway: Gateway,
    process: asyncio.subprocess.Process,
    lasts: float | None,
    stop: asyncio.Event,
    grew: Callable[[Report, float], None],
) -> None:
    began = time.monotonic()
    while not stop.is_set() and process.returncode is None:
        passed = time.monotonic() - began
        grew(await _report(gateway), passed)
        if lasts is not None and passed >= lasts:
            return
        left = 1.0 if lasts is None else min(1.0, lasts - passed)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(left):
                await stop.wait()
    if process.returncode:
        raise DemoFailed(f"the simulated fleet ended with status {process.returncode}; see its error above")


async def end(process: asyncio.subprocess.Process) -> None:
    """End the fleet in good order; kill it if that takes too long."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(FLEET_ENDS_WITHIN):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def _settled(gateway: Gateway) -> None:
    """Wait until the gateway has processed what the fleet sent: nothing new for half a second, and nothing waits."""
    give_up = time.monotonic() + 10
    before = Counts(received=-1)
    while time.monotonic() < give_up:
        now = (await _report(gateway)).total
        if now == before and not now.journaled:
            return
        before = now
        await asyncio.sleep(0.5)


async def _report(gateway: Gateway) -> Report:
    balance = await gateway.engine.state.database.read(ledger.balance)
    devices = sum(len(gateway.engine.devices(startup.slug)) for startup in gateway.config.startups)
    everyone = {startup.slug: balance.get(startup.slug, Counts()) for startup in gateway.config.startups}
    return Report(everyone | balance, devices)


def as_json_line(report: Report) -> str:
    return json.dumps(report.as_json(), separators=(",", ":"))
