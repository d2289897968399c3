"""`python -m bench [PATH] [options]`: parse, run, print."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape

from bench import report
from bench.children import BenchError
from bench.options import Options
from bench.paths import buckets, drain, end_to_end, growth, ingest, latency, load, memory, peers, query, startups
from bench.report import Report
from bench.shape import Shape
from tests.servers import ServerFailed

Path = Callable[[Options], Coroutine[Any, Any, Report]]

PATHS: dict[str, tuple[Path, str]] = {
    "load": (load.run, "the load generator into a sink: its own ceiling"),
    "ceiling": (ingest.ceiling, "a bare subscriber on the broker: the limit"),
    "ingest": (ingest.ingest, "broker to fsynced journal, as a share of the ceiling"),
    "drain": (drain.run, "journal to store, SQLite and InfluxDB"),
    "buckets": (buckets.run, "journal to InfluxDB, in 5 to 200 buckets, and queries of one"),
    "end-to-end": (end_to_end.run, "publish to stored, at a share of the ceiling"),
    "latency": (latency.latency, "publish to stored: p50, p99, p99.9 at 50 and 80 % of the sustained rate"),
    "feed": (latency.feed, "publish to a listener (SSE): p50, p99, p99.9 at 50 and 80 % of the sustained rate"),
    "query": (query.run, "history: a day of one device, downsampled, out of millions of readings"),
    "memory": (memory.run, "resident memory after 1, 5 and 10 million messages"),
    "growth": (growth.run, "CPU of a message with more startups, devices, bytes, fields, readings"),
    "startups": (startups.run, "1,000 startups: the start, the memory, a reload of one beside the others"),
    "peers": (peers.run, "CPU of a message, and what is lost: a plain script, Telegraf, Node-RED"),
}
SHORT: dict[str, Any] = {"seconds": 2.0, "rounds": 3}
SHORT_RUNS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("load", {}),
    ("ingest", {}),
    ("drain", {}),
    ("end-to-end", {"store": "sqlite"}),
    ("end-to-end", {"store": "influxdb"}),
    ("latency", {"store": "sqlite"}),
    ("latency", {"store": "influxdb"}),
    ("feed", {}),
    ("query", {"readings_stored": 1_000_000}),
    ("memory", {"messages": 200_000}),
    ("growth", {"messages": 20_000}),
    ("peers", {"messages": 20_000}),
)
"""Paths of plain `make bench`: a short form of each. `ingest` measures the ceiling as well."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, and return the exit status: 1 if a ledger does not balance or a message is lost, 2 if a path cannot run."""
    asked = parser().parse_args(arguments)
    errors = Console(stderr=True, highlight=False)
    if sys.platform != "linux":
        errors.print("the benchmarks read /proc: they run on Linux only")
        return 2
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)  # so that child processes are ended, also in the background
    taken_on = report.taken_on()
    runs = ((asked.path, {}),) if asked.path else SHORT_RUNS
    reports = [one for name, short in runs if (one := _run(name, asked, short, errors))]
    if reports:
        errors.print(f"results: {report.save(reports, taken_on)}")
        report.console(to_stderr=asked.json).print(report.table(reports))
    if asked.json:
        for one in reports:
            print(json.dumps(one.figures))
    if len(reports) < len(runs):
        return 2
    return 0 if all(one.whole for one in reports) else 1


def _run(name: str, asked: argparse.Namespace, short: dict[str, Any], errors: Console) -> Report | None:
    """Run a path; if it cannot run, print why and return None."""
    try:
        return asyncio.run(PATHS[name][0](options_of(asked, short)))
    except (BenchError, ServerFailed, ValueError) as error:
        errors.print(f"[red]{name}:[/] {escape(str(error))}")
        return None


def parser() -> argparse.ArgumentParser:
    """Return the parser. Options apply to every path that uses them."""
    paths = "\n".join(f"  {name:12} {about}" for name, (_, about) in PATHS.items())
    made = argparse.ArgumentParser(
        prog="python -m bench",
        description="Benchmarks of the gateway, as ratios taken in one run.",
        epilog=f"paths (none: a short form of all of them):\n{paths}\n\nWhat each figure means: bench/README.md",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("path", nargs="?", choices=PATHS, metavar="PATH", help="one of the paths below")
    made.add_argument("--json", action="store_true", help="print one JSON object per path in the last lines of stdout")
    _add_load(made)
    _add_shape(made)
    return made


def _add_load(made: argparse.ArgumentParser) -> None:
    group = made.add_argument_group("the run")
    group.add_argument("--rounds", type=int, help="measurements of each kind, in turns; the median counts (3)")
    group.add_argument("--seconds", type=float, help="duration of the load (5)")
    group.add_argument("--messages", type=int, help="number of messages, in place of --seconds")
    group.add_argument("--qos", type=int, choices=(0, 1), help="QoS of publishing and subscribing (1)")
    group.add_argument(
        "--mqtt", dest="version", type=int, choices=(4, 5), help="MQTT version of the load: 4 is 3.1.1 (4)"
    )
    group.add_argument("--connections", type=int, help="connections of the load (1)")
    group.add_argument("--window", type=int, help="messages that a connection may have unacknowledged (20,000)")
    group.add_argument("--in-flight", type=int, help="Receive Maximum of both subscribers (5,000)")
    group.add_argument("--store", choices=("sqlite", "influxdb"), help="store of the readings (sqlite)")
    group.add_argument("--share", type=float, help="share of the ceiling at which end-to-end runs (0.5)")
    group.add_argument(
        "--stored", dest="readings_stored", type=int, help="readings in the store for query (10,000,000)"
    )
    group.add_argument("--workers", type=int, help="passed to `gateway run` if given")


def _add_shape(made: argparse.ArgumentParser) -> None:
    group = made.add_argument_group("the messages")
    group.add_argument("--startups", type=int, help="startups (5)")
    group.add_argument("--devices", type=int, help="devices of all startups together (200)")
    group.add_argument("--fields", type=int, help="fields of a reading (2)")
    group.add_argument("--readings", type=int, help="readings of a message (1)")
    group.add_argument("--payload", type=int, help="minimum bytes of a payload (60)")


def options_of(asked: argparse.Namespace, short: dict[str, Any]) -> Options:
    """Return the given options on top of the defaults, which are those of the short form if no path is named."""
    given = {name: value for name, value in vars(asked).items() if value is not None and name not in ("path", "json")}
    shape = {name: given.pop(name) for name in Shape.__slots__ if name in given}
    defaults = {} if asked.path else SHORT | short
    return Options(shape=Shape(**shape)).but(**defaults | given)
