"""`buckets`: journal to InfluxDB, with the same readings in few buckets and in many; then queries of single buckets."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace

from bench import formatting
from bench.options import Options
from bench.paths.drain import Drained, drained
from bench.report import Report, Row, progress
from bench.shape import MEASUREMENT, Shape
from bench.stats import median, quantile
from bench.stores import InfluxDB, Store

NUMBERS = (5, 20, 50, 100, 200)
QUERIES = 50
QUERY = f"SELECT mean(f01) FROM {MEASUREMENT} WHERE time > now() - 1h GROUP BY time(10s)"  # noqa: S608 - our own word


@dataclass(frozen=True, slots=True)
class Filled:
    """So many buckets, filled. `query_ms` are the times of queries afterwards."""

    buckets: int
    drained: Drained
    query_ms: list[float]


async def run(options: Options) -> Report:
    """Measure each number of buckets in turns."""
    runs: dict[int, list[Filled]] = {number: [] for number in NUMBERS}
    with progress("buckets", options.rounds * len(NUMBERS)) as advance:
        for _ in range(options.rounds):
            for number in NUMBERS:
                advance(f"{number} buckets")
                runs[number].append(await _filled(options, number))
    figures = {str(number): _figures(several) for number, several in runs.items()}
    every = [one for several in runs.values() for one in several]
    whole = all(one.drained.whole for one in every)
    rows = [row for several in runs.values() for row in _rows(several)]
    rows.append(Row("ledger balanced, all stored", formatting.yes(whole), "yes", whole))
    return Report({"path": "buckets", "balanced": whole, **figures}, rows, [asdict(one) for one in every], whole)


async def _filled(options: Options, number: int) -> Filled:
    shape = options.shape.but(startups=number, devices=max(options.shape.devices, number))
    query_ms: list[float] = []

    async def query(store: Store) -> None:
        assert isinstance(store, InfluxDB)
        query_ms.extend([await _timed(store, shape, i) for i in range(QUERIES)])

    return Filled(number, await drained(replace(options, shape=shape), "influxdb", query), query_ms)


async def _timed(store: InfluxDB, shape: Shape, i: int) -> float:
    began = time.perf_counter()
    await store.rows(store.bucket.format(startup=shape.slug(i % shape.startups)), QUERY)
    return (time.perf_counter() - began) * 1e3


def _figures(several: list[Filled]) -> dict[str, object]:
    times = sorted(ms for one in several for ms in one.query_ms)
    return {
        "readings": several[-1].drained.readings,
        "rate": round(median(one.drained.rate for one in several)),
        "resident_mib": several[-1].drained.resident,
        "query_ms": {"p50": round(quantile(times, 0.5), 1), "p99": round(quantile(times, 0.99), 1)},
    }


def _rows(several: list[Filled]) -> list[Row]:
    number, figures = several[0].buckets, _figures(several)
    times = sorted(ms for one in several for ms in one.query_ms)
    resident = several[-1].drained.resident
    return [
        Row(f"{number} buckets: journal to store", formatting.per_second(float(str(figures["rate"])), "readings")),
        Row(f"{number} buckets: a query, median", formatting.millis(quantile(times, 0.5))),
        *(Row(f"{number} buckets: resident, {name}", formatting.mib(value)) for name, value in resident.items()),
    ]
