"""`growth`: CPU of the gateway per message and per reading as the load grows in one direction, against the base."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from bench import formatting, rig
from bench.options import Options
from bench.report import Report, Row, progress
from bench.rig import Run
from bench.shape import Shape
from bench.stats import median, ratio

MESSAGES = 200_000
LIMIT = 1.25
POINTS: dict[str, dict[str, int]] = {
    "500 startups, 20,000 devices": {"startups": 500, "devices": 20_000},
    "50 startups, 2,000 devices": {"startups": 50, "devices": 2_000},
    "20,000 devices": {"devices": 20_000},
    "16 KiB payload": {"payload": 16 << 10},
    "1 KiB payload": {"payload": 1 << 10},
    "64 fields": {"fields": 64},
    "8 fields": {"fields": 8},
    "1 field": {"fields": 1},
    "100 readings a message": {"readings": 100},
    "10 readings a message": {"readings": 10},
}
LIMITED = ("500 startups, 20,000 devices",)

Pair = tuple[Run, Run]


async def run(options: Options) -> Report:
    """Measure the base and each point in turns: base, point, base, point, …"""
    pairs: dict[str, list[Pair]] = {name: [] for name in POINTS}
    with progress("growth", 2 * options.rounds * len(POINTS)) as advance:
        for _ in range(options.rounds):
            for name, changes in POINTS.items():
                advance("base")
                base = await _ingest(options, options.shape)
                advance(name)
                pairs[name].append((base, await _ingest(options, options.shape.but(**changes))))
    figures = {name: _figures(several, options.shape.but(**POINTS[name])) for name, several in pairs.items()}
    whole = all(run.more["balanced"] and not run.more["rejected"] for pair in _flat(pairs) for run in pair)
    base_us = median(base.cpu_us("gateway") for base, _ in _flat(pairs))
    head = {"path": "growth", "base": options.shape.as_json(), "base_cpu_us_per_message": round(base_us, 3)}
    rows = [Row("base: CPU of a message", formatting.micros(base_us))]
    rows += [_row(name, one) for name, one in figures.items()]
    measurements = [
        {"point": name, "base": asdict(base), "run": asdict(run)}
        for name, several in pairs.items()
        for base, run in several
    ]
    return Report({**head, "balanced": whole, "points": figures}, rows, measurements, whole)


async def _ingest(options: Options, shape: Shape) -> Run:
    """Return fewer messages for a shape with heavy messages, so that each takes about the same time."""
    weight = max(1.0, shape.readings / 4, len(shape.body(0)) / 1024, shape.fields / 8)
    messages = max(1000, int((options.messages or MESSAGES) / weight))
    return await rig.ingest(options.but(shape=shape), {"messages": messages})


def _flat(pairs: dict[str, list[Pair]]) -> list[Pair]:
    return [pair for several in pairs.values() for pair in several]


def _figures(several: list[Pair], shape: Shape) -> dict[str, Any]:
    points, bases = [run.cpu_us("gateway") for _, run in several], [base.cpu_us("gateway") for base, _ in several]
    grown = ratio(points, bases)
    return {
        "cpu_per_message_ratio": round(grown, 3),
        "cpu_per_reading_ratio": round(grown / shape.readings, 3),
        "cpu_us_per_message": round(median(points), 3),
        "payload_bytes": len(shape.body(0)),
        "journal_bytes_per_reading": round(median(run.more["journal_bytes_per_reading"] for _, run in several), 1),
        "resident_mib": median(run.resident["gateway"] for _, run in several),
    }


def _row(name: str, figures: dict[str, Any]) -> Row:
    grown, per_reading = figures["cpu_per_message_ratio"], figures["cpu_per_reading_ratio"]
    of_reading = "" if grown == per_reading else f" ({formatting.times(per_reading)} per reading)"
    shown = f"{formatting.times(grown)}{of_reading}"
    if name in LIMITED:
        return Row(name, shown, f"at most {formatting.times(LIMIT)}", grown <= LIMIT)
    return Row(name, shown)
