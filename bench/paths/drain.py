"""`drain`: journal to store. The journal is filled while the store is away; then the gateway starts again with it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from typing import get_args

from bench import formatting, rig, stores
from bench.children import BenchError, Helper
from bench.gateway_process import Gateway
from bench.options import Options, StoreKind
from bench.report import Report, Row, progress
from bench.rig import Meter, Site
from bench.stats import median, rate
from bench.stores import Store

READINGS_A_SECOND = 100_000
"""Readings of the journal for each of `--seconds`."""


@dataclass(frozen=True, slots=True)
class Drained:
    """Drain of one journal. `cpu` is CPU-seconds and `resident` MiB at the end, by process; `whole`: balanced, and all
    of it is in the store."""

    readings: int
    rate: float
    cpu: dict[str, float]
    resident: dict[str, float]
    whole: bool


async def _nothing(_store: Store) -> None:
    """Look at nothing."""


async def run(options: Options) -> Report:
    """Measure both stores in turns."""
    kinds: tuple[StoreKind, ...] = get_args(StoreKind)
    runs: dict[StoreKind, list[Drained]] = {kind: [] for kind in kinds}
    with progress("drain", options.rounds * len(kinds)) as advance:
        for _ in range(options.rounds):
            for kind in kinds:
                advance(kind)
                runs[kind].append(await drained(options, kind))
    figures = {str(kind): _figures(several) for kind, several in runs.items()}
    rows = [row for kind, several in runs.items() for row in _rows(kind, several)]
    whole = all(one.whole for several in runs.values() for one in several)
    rows.append(Row("ledger balanced, all stored", formatting.yes(whole), "yes", whole))
    measurements = [{"store": kind, **asdict(one)} for kind, several in runs.items() for one in several]
    return Report({"path": "drain", "balanced": whole, **figures}, rows, measurements, whole)


async def drained(options: Options, kind: StoreKind, look: Callable[[Store], Awaitable[None]] = _nothing) -> Drained:
    """Fill a journal, start the gateway with a store, and wait until that has everything; then `look` into it."""
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(rig.mosquitto())
        directory = await stack.enter_async_context(rig.scratch())
        gateway = rig.gateway_of(options, directory, one, None)
        async with gateway:
            await _fill(options, Site(options, one, gateway, None))
        store = await stack.enter_async_context(stores.opened(kind, directory, options.shape))
        gateway.use(store.influx)
        await stack.enter_async_context(gateway)
        readings, speed, meter = await _emptied(gateway, store.pids)
        cpu, resident = meter.cpu(), meter.resident()
        counts = gateway.balance()
        in_store = await store.points(options.shape)
        await look(store)
        whole = gateway.balanced() and counts.stored == counts.accepted == in_store
        return Drained(readings, speed, cpu, resident, whole)


async def _fill(options: Options, site: Site) -> None:
    messages = options.messages or int(options.seconds * READINGS_A_SECOND / options.shape.readings)
    async with Helper("load", options.load(site.broker.port)) as load:
        await rig.phase(site, load, site.broker, {"messages": messages}, 0)


async def _emptied(gateway: Gateway, pids: dict[str, int]) -> tuple[int, float, Meter]:
    """Measure from the first look that finds something stored to the one that finds all: readings, rate, processes."""
    accepted = gateway.count("accepted")
    await gateway.until("stored", 1)
    meter = Meter({"gateway": gateway.pid, **pids})
    start_ns, before = time.monotonic_ns(), gateway.count("stored")
    end_ns = await gateway.until("stored + refused", accepted)
    if accepted == before:
        raise BenchError(f"drain: {accepted:,} readings were stored before the first look; use more --seconds")
    return accepted - before, rate(accepted - before, start_ns, end_ns), meter


def _per_cpu_second(one: Drained) -> float:
    return one.readings / max(one.cpu["gateway"], 0.01)


def _figures(several: list[Drained]) -> dict[str, object]:
    return {
        "readings": several[-1].readings,
        "rate": round(median(one.rate for one in several)),
        "readings_per_cpu_second": round(median(map(_per_cpu_second, several))),
        "cpu_us_per_reading": _cpu_us(several),
    }


def _cpu_us(several: list[Drained]) -> dict[str, float]:
    """Return the median CPU of each process per reading, in µs."""
    processes = several[0].cpu
    return {name: round(median(one.cpu[name] * 1e6 / one.readings for one in several), 3) for name in processes}


def _rows(kind: StoreKind, several: list[Drained]) -> list[Row]:
    return [
        Row(f"{kind}: journal to store", formatting.per_second(median(one.rate for one in several), "readings")),
        Row(f"{kind}: readings per CPU-second", f"{median(map(_per_cpu_second, several)):,.0f}"),
        *(Row(f"{kind}: CPU of a reading, {name}", formatting.micros(us)) for name, us in _cpu_us(several).items()),
    ]
