"""The bench itself: a broker, a load, and one subject that takes the messages in. Fresh for each measurement."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from bench import procfs
from bench.broker import broker
from bench.children import Helper
from bench.gateway_process import Gateway, nowhere
from bench.options import Options
from bench.stats import rate
from tests.servers import Mosquitto


class Subject(Protocol):
    """What takes messages in, and can tell when it has got so many since its start."""

    @property
    def pid(self) -> int: ...

    async def took(self, messages: int) -> int:
        """Wait for that; when it was, in ns of CLOCK_MONOTONIC."""
        ...


@dataclass(frozen=True, slots=True)
class Run:
    """One measured phase. `cpu` is CPU-seconds within it by process, `resident` MiB at its end."""

    messages: int
    rate: float
    cpu: dict[str, float]
    resident: dict[str, float]
    load: dict[str, Any]
    more: dict[str, Any] = field(default_factory=dict)

    def cpu_us(self, process: str = "subject") -> float:
        """CPU of a process per message, in µs."""
        return self.cpu[process] * 1e6 / self.messages


class Bare:
    """The ceiling's subscriber as a subject."""

    def __init__(self, helper: Helper) -> None:
        self._helper = helper

    @property
    def pid(self) -> int:
        return self._helper.pid

    async def took(self, messages: int) -> int:
        answer = await self._helper.ask({"until": messages})
        return int(answer["ns"])


class Ingesting:
    """A gateway as a subject: a message counts when the ledger on its disk has it."""

    def __init__(self, gateway: Gateway, readings: int) -> None:
        self.gateway = gateway
        self._readings = readings

    @property
    def pid(self) -> int:
        return self.gateway.pid

    async def took(self, messages: int) -> int:
        return await self.gateway.until("received", messages * self._readings)


class Meter:
    """CPU of several processes, since `start`."""

    def __init__(self, pids: dict[str, int]) -> None:
        self._pids = pids
        self._before = {name: procfs.cpu_seconds(pid) for name, pid in pids.items()}

    def cpu(self) -> dict[str, float]:
        return {name: procfs.cpu_seconds(pid) - self._before[name] for name, pid in self._pids.items()}

    def resident(self) -> dict[str, float]:
        return {name: round(procfs.resident_mib(pid), 1) for name, pid in self._pids.items()}


@asynccontextmanager
async def scratch() -> AsyncIterator[Path]:
    """A directory for one measurement, gone after it."""
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as directory:
        yield Path(directory)


@asynccontextmanager
async def mosquitto() -> AsyncIterator[Mosquitto]:
    async with scratch() as directory, broker(directory) as one:
        yield one


async def phase(subject: Subject, load: Helper, one: Mosquitto, asked: dict[str, Any], before: int) -> Run:
    """Send one phase and wait until the subject has it; `before` messages came to it earlier."""
    meter = Meter({"subject": subject.pid, "broker": one.pid, "load": load.pid})
    sent = await load.ask(asked)
    took_ns = await subject.took(before + sent["messages"])
    return Run(sent["messages"], rate(sent["messages"], sent["start_ns"], took_ns), meter.cpu(), meter.resident(), sent)


async def measured(subject: Subject, options: Options, one: Mosquitto, asked: dict[str, Any]) -> Run:
    """Warm up, then measure."""
    async with Helper("load", options.load(one.port)) as load:
        warm = await phase(subject, load, one, options.warm_up(), 0)
        return await phase(subject, load, one, asked, warm.messages)


async def ceiling(options: Options, asked: dict[str, Any] | None = None) -> Run:
    """What the bare subscriber takes."""
    async with mosquitto() as one, Helper("bare", options.bare(one.port)) as helper:
        return await measured(Bare(helper), options, one, asked or options.phase())


async def ingest(options: Options, asked: dict[str, Any] | None = None) -> Run:
    """What the gateway takes, with a store that is away: broker to fsynced journal."""
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(mosquitto())
        directory = await stack.enter_async_context(scratch())
        gateway = Gateway(
            directory,
            one.url,
            options.shape,
            influx=nowhere(),
            in_flight=options.in_flight,
            workers=options.workers,
        )
        await stack.enter_async_context(gateway)
        run = await measured(Ingesting(gateway, options.shape.readings), options, one, asked or options.phase())
        run.more.update(balanced=gateway.balanced(), rejected=gateway.count("rejected"))
        run.more.update(journal_bytes_per_reading=gateway.journal_bytes() / max(1, gateway.count("accepted")))
        return run
