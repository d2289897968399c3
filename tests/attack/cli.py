"""`python -m tests.attack [options]`: choose, run, print."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from bench import report
from bench.children import BenchError
from tests.attack.bed import Scale
from tests.attack.measure import Line, Load, measured
from tests.attack.scenario import Scenario, scenarios
from tests.attack.table import table
from tests.servers import ServerFailed

WIDTH = 170
SHORT = (Load(messages=20, patience=20.0), Scale(seconds=2.0, lead=0.5, share=0.1))


def main(arguments: Sequence[str] | None = None) -> int:
    """Attack, and return the exit status: 1 if a target is missed, 2 if something cannot run."""
    known = scenarios()
    asked = parser(known).parse_args(arguments)
    errors = Console(stderr=True, highlight=False)
    if sys.platform != "linux":
        errors.print("the attacks read /proc: they run on Linux only")
        return 2
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)  # so that child processes are ended, also in the background
    chosen = [known[name] for name in asked.only] if asked.only else list(known.values())
    lines = []
    with report.progress("attack", len(chosen)) as advance:
        for one in chosen:
            advance(one.name)
            if line := _run(one, asked, errors):
                lines.append(line)
                if asked.json:
                    print(json.dumps(line.as_json()), flush=True)
    out = Console(stderr=asked.json)
    (out if out.is_terminal else Console(stderr=asked.json, width=WIDTH)).print(table(lines))
    if len(lines) < len(chosen):
        return 2
    return 0 if all(line.good for line in lines) else 1


def _run(scenario: Scenario, asked: argparse.Namespace, errors: Console) -> Line | None:
    """Run an attack; if it cannot run, print why and return None."""
    load, scale = SHORT if asked.short else (Load(), Scale())
    if asked.messages:
        load = Load(messages=asked.messages)
    try:
        return asyncio.run(measured(scenario, load, scale))
    except (BenchError, ServerFailed, AssertionError) as error:
        errors.print(f"[red]{scenario.name}:[/] {escape(str(error))}")
        return None


def parser(known: dict[str, Scenario]) -> argparse.ArgumentParser:
    listed = "\n".join(f"  {name:28} {one.about}" for name, one in known.items())
    made = argparse.ArgumentParser(
        prog="python -m tests.attack",
        description="Attacks by one startup, or by anybody, and what a well-behaved startup notices.",
        epilog=f"attacks:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--only", metavar="NAME", action="append", choices=known, help="one of the attacks below; repeat")
    made.add_argument("--short", action="store_true", help="two seconds of each attack: too few to judge a p99")
    made.add_argument("--messages", type=int, help="messages of the victim in each phase (100)")
    made.add_argument("--json", action="store_true", help="print one JSON object per attack on stdout")
    return made
