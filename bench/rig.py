"""Bench itself: a broker, a load, and a subject that receives the messages. New for each measurement."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from bench import procfs, stores
from bench.broker import broker
from bench.children import BenchError, Helper
from bench.gateway_process import Gateway, nowhere
from bench.options import Options, StoreKind
from bench.sampling import sampled
from bench.stats import rate
from bench.stores import Store
from tests.servers import Mosquitto

SAMPLE = 1.0
BARE_WITHIN = 300.0

What = Literal["received", "stored + refused + rejected"]


class Subject(Protocol):
    """A receiver of messages that knows when it has received so many since its start. `pids` are processes by name."""

    @property
    def pids(self) -> dict[str, int]: ...

    async def took(self, messages: int) -> int:
        """Wait for that, and return when it was, in ns of CLOCK_MONOTONIC."""
        ...


@dataclass(frozen=True, slots=True)
class Run:
    """A measured phase. `cpu` is CPU-seconds within it by process, `resident` MiB at its end."""

    messages: int
    rate: float
    cpu: dict[str, float]
    resident: dict[str, float]
    load: dict[str, Any]
    more: dict[str, Any] = field(default_factory=dict)

    def cpu_us(self, process: str) -> float:
        """Return the CPU of a process per message, in µs."""
        return self.cpu[process] * 1e6 / self.messages


class Bare:
    """Ceiling's subscriber as a subject."""

    def __init__(self, helper: Helper) -> None:
        self._helper = helper

    @property
    def pids(self) -> dict[str, int]:
        return {"bare": self._helper.pid}

    async def took(self, messages: int) -> int:
        try:
            async with asyncio.timeout(BARE_WITHIN):
                answer = await self._helper.ask({"until": messages})
        except TimeoutError:
            raise BenchError(
                f"{messages:,} messages were sent; not all of them arrived at the bare subscriber"
            ) from None
        return int(answer["ns"])


@dataclass(frozen=True)
class Site:
    """A broker and a gateway that subscribes to it; without a store, everything stays in the journal.

    As a subject it has a message when the ledger on the gateway's disk says that it is stored or, without a store,
    received.
    """

    options: Options
    broker: Mosquitto
    gateway: Gateway
    store: Store | None

    @property
    def pids(self) -> dict[str, int]:
        return {"gateway": self.gateway.pid} | (self.store.pids if self.store else {})

    async def took(self, messages: int) -> int:
        what: What = "stored + refused + rejected" if self.store else "received"
        return await self.gateway.until(what, messages * self.options.shape.readings)


class Meter:
    """CPU time of several processes, since its creation."""

    def __init__(self, pids: dict[str, int]) -> None:
        self._pids = pids
        self._before = {name: procfs.cpu_seconds(pid) for name, pid in pids.items()}

    def cpu(self) -> dict[str, float]:
        return {name: round(procfs.cpu_seconds(pid) - self._before[name], 3) for name, pid in self._pids.items()}

    def resident(self) -> dict[str, float]:
        return {name: round(procfs.resident_mib(pid), 1) for name, pid in self._pids.items()}


@asynccontextmanager
async def scratch() -> AsyncIterator[Path]:
    """Make a directory for one measurement, and remove it afterwards."""
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as directory:
        yield Path(directory)


@asynccontextmanager
async def mosquitto() -> AsyncIterator[Mosquitto]:
    stores.need("mosquitto")
    async with scratch() as directory, broker(directory) as one:
        yield one


@asynccontextmanager
async def site(options: Options, kind: StoreKind | None) -> AsyncIterator[Site]:
    """Start a broker, a store and a gateway; None is an unreachable store."""
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(mosquitto())
        directory = await stack.enter_async_context(scratch())
        store = await stack.enter_async_context(stores.opened(kind, directory, options.shape)) if kind else None
        gateway = gateway_of(options, directory, one, store)
        await stack.enter_async_context(gateway)
        yield Site(options, one, gateway, store)


def gateway_of(options: Options, directory: Path, one: Mosquitto, store: Store | None) -> Gateway:
    """Return a gateway that subscribes to a broker; it is not started yet."""
    influx = store.influx if store else nowhere()
    return Gateway(
        directory, one.url, options.shape, influx=influx, in_flight=options.in_flight, workers=options.workers
    )


async def phase(subject: Subject, load: Helper, one: Mosquitto, asked: dict[str, Any], before: int) -> Run:
    """Send one phase and wait until the subject has it; it received `before` messages earlier."""
    meter = Meter({**subject.pids, "broker": one.pid, "load": load.pid})
    sent = await load.ask(asked)
    took_ns = await subject.took(before + sent["messages"])
    speed = rate(sent["messages"], sent["start_ns"], took_ns)
    return Run(sent["messages"], speed, meter.cpu(), meter.resident(), sent)


async def measured(subject: Subject, options: Options, one: Mosquitto, asked: dict[str, Any]) -> Run:
    """Warm up, then measure."""
    async with Helper("load", options.load(one.port)) as load:
        warm = await phase(subject, load, one, options.warm_up(), 0)
        return await phase(subject, load, one, asked, warm.messages)


async def ceiling(options: Options, asked: dict[str, Any] | None = None) -> Run:
    """Measure the bare subscriber."""
    async with mosquitto() as one, Helper("bare", options.bare(one.port)) as helper:
        return await measured(Bare(helper), options, one, asked or options.phase())


async def ingest(options: Options, asked: dict[str, Any] | None = None) -> Run:
    """Measure the gateway with an unreachable store: broker to fsynced journal."""
    async with site(options, None) as one:
        run = await measured(one, options, one.broker, asked or options.phase())
        run.more.update(balanced=one.gateway.balanced(), rejected=one.gateway.count("rejected"))
        run.more.update(journal_bytes_per_reading=one.gateway.journal_bytes() / max(1, one.gateway.count("accepted")))
        return run


async def stored(options: Options, kind: StoreKind, asked: dict[str, Any]) -> Run:
    """Measure publish to stored, into a store that is empty before. `more` has the ledger and the backlog.

    A sample of the backlog is seconds since the start, messages received, and messages stored, both since then.
    """
    async with site(options, kind) as one, Helper("load", options.load(one.broker.port)) as load:
        warm = await phase(one, load, one.broker, options.warm_up(), 0)
        start, readings = time.monotonic(), options.shape.readings

        def look() -> tuple[float, float, float]:
            counts = one.gateway.balance()
            came, went = counts.received / readings - warm.messages, counts.stored / readings - warm.messages
            return round(time.monotonic() - start, 2), came, went

        async with sampled(look, SAMPLE) as backlog:
            run = await phase(one, load, one.broker, asked, warm.messages)
        run.more.update(await _outcome(one, warm.messages + run.messages), backlog=backlog)
        return run


async def _outcome(one: Site, messages: int) -> dict[str, Any]:
    """Return the outcome of all messages since the start, including the warm-up."""
    assert one.store is not None
    counts = one.gateway.balance()
    in_store = await one.store.points(one.options.shape)
    sent = messages * one.options.shape.readings
    return {
        "balanced": one.gateway.balanced(),
        "ledger": counts.as_json(),
        "sent_readings": sent,
        "in_store": in_store,
        "whole": one.gateway.balanced() and sent == counts.accepted == counts.stored == in_store,
    }
