"""`query`: one day of one field of one device, downsampled, out of millions of readings, through the HTTP API."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from typing import Any

import aiohttp

from bench import formatting, rig
from bench.children import BenchError
from bench.gateway_process import OPERATOR_TOKEN, Gateway
from bench.history import DAY_NS, DEVICES, START_NS, DataSet, data_set
from bench.options import Options
from bench.report import Advance, Report, Row, progress
from bench.shape import MEASUREMENT, Shape
from bench.stats import median, quantile
from gateway.timestamps import to_rfc3339

EVERY = "15m"
TIMES = 20
"""Queries of a round, each of another day and device."""

FIRST_MS = 100.0
ROW = b'{"time":'


async def run(options: Options) -> Report:
    """Repeat the same kind of query, each time for another day."""
    shape = Shape(startups=1, devices=DEVICES)
    with progress("query, data set", options.readings_stored // 1_000_000 or 1) as advance:
        shown = 0

        def made(readings: int) -> None:
            nonlocal shown
            if readings >= shown:
                shown += 1_000_000
                advance(f"{readings:,} readings")

        stored = await data_set(options.readings_stored, shape.slug(0), made)
    if not stored.days:
        raise BenchError("query: expected at least the readings of a day, 60,000")
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(rig.mosquitto())
        directory = await stack.enter_async_context(rig.scratch())
        gateway = rig.gateway_of(options.but(shape=shape), directory, one, None)
        gateway.use(None)
        gateway.state.mkdir(parents=True)
        (gateway.state / "store").symlink_to(stored.directory)
        await stack.enter_async_context(gateway)
        with progress("query", options.rounds * TIMES) as advance:
            answers = [await _ask(gateway, shape, stored, number, advance) for number in range(options.rounds * TIMES)]
    return _report(options, answers)


async def _ask(gateway: Gateway, shape: Shape, stored: DataSet, number: int, advance: Advance) -> dict[str, float]:
    """Run a query on a new connection. Return rows, and ms to the first byte, the first row and the end."""
    day = number * 7 % stored.days
    advance(f"day {day + 1} of {stored.days}")
    start_ns = START_NS + day * DAY_NS
    asked = {
        "measurement": MEASUREMENT,
        "device": f"dev-{number % DEVICES:05}",
        "start": to_rfc3339(start_ns),
        "stop": to_rfc3339(start_ns + DAY_NS),
        "every": EVERY,
    }
    url = f"{gateway.url}/v1/startups/{shape.slug(0)}/telemetry"
    headers = {"Authorization": f"Bearer {OPERATOR_TOKEN}"}
    async with aiohttp.ClientSession(headers=headers, raise_for_status=True) as http:
        began = time.perf_counter()
        async with http.get(url, params=asked) as answer:
            return await _timed(answer, began)


async def _timed(answer: aiohttp.ClientResponse, began: float) -> dict[str, float]:
    body, marks = bytearray(), {"first_byte_ms": 0.0, "first_row_ms": 0.0}
    async for part in answer.content.iter_any():
        body += part
        now = (time.perf_counter() - began) * 1e3
        marks["first_byte_ms"] = marks["first_byte_ms"] or now
        if ROW in body:
            marks["first_row_ms"] = marks["first_row_ms"] or now
    return marks | {"whole_ms": (time.perf_counter() - began) * 1e3, "rows": body.count(ROW)}


def _report(options: Options, answers: list[dict[str, float]]) -> Report:
    names = ("first_byte_ms", "first_row_ms", "whole_ms")
    figures: dict[str, Any] = {"path": "query", "readings": options.readings_stored, "queries": len(answers)}
    for name in names:
        ordered = sorted(answer[name] for answer in answers)
        figures[name] = {"first": round(answers[0][name], 2), "p50": round(quantile(ordered, 0.5), 2)}
        figures[name]["max"] = round(ordered[-1], 2)
    figures["rows"] = median(answer["rows"] for answer in answers)
    first = figures["first_row_ms"]
    rows = [
        Row(
            f"one day of {options.readings_stored:,} readings: first byte",
            formatting.millis(figures["first_byte_ms"]["p50"]),
        ),
        Row("first row, median", formatting.millis(first["p50"]), f"< {FIRST_MS:g} ms", first["p50"] < FIRST_MS),
        Row("first row, slowest", formatting.millis(first["max"])),
        Row("whole answer, median", formatting.millis(figures["whole_ms"]["p50"])),
    ]
    return Report(figures, rows, list(answers))
