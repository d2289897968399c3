"""`python -m tests.powercut [options]`: record, cut, print."""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import signal
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from bench import report
from tests.powercut.recording import CannotRecord
from tests.powercut.run import Line, cut, recorded
from tests.powercut.scenarios import CONTROLS, SCENARIOS, Scenario, named
from tests.powercut.table import table
from tests.servers import ServerFailed

WIDTH = 150
CUTS = 1000
MESSAGES = 600
OF_CONTROLS = 20
"""A control gets one cut where the scenarios have so many together."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Cut, and return the exit status: 1 if something is lost, or a control loses nothing, 2 if it cannot run."""
    known = named([*SCENARIOS, *CONTROLS])
    asked = parser(known).parse_args(arguments)
    seed = asked.seed if asked.seed is not None else secrets.randbelow(1 << 32)
    errors = Console(stderr=True, highlight=False)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)  # so that child processes are ended, also in the background
    chosen = [known[name] for name in asked.only] if asked.only else list(known.values())
    with tempfile.TemporaryDirectory(prefix="powercut-") as temporary:
        try:
            lines = asyncio.run(_lines(chosen, asked, seed, asked.recordings or Path(temporary)))
        except (CannotRecord, ServerFailed, AssertionError) as error:
            errors.print(f"[red]it cannot run:[/] {escape(str(error))}")
            return 2
    if asked.json:
        found = {"seed": seed, "lines": [line.as_json() for line in lines]}
        print(json.dumps(report.taken_on() | found, indent=1))
    out = Console(stderr=asked.json)
    (out if out.is_terminal else Console(stderr=asked.json, width=WIDTH)).print(table(lines, seed))
    for line in lines:
        for one in [] if line.scenario.is_control else line.bad[:3]:
            errors.print(f"[red]{line.scenario.name}[/] {escape(str(one))}", soft_wrap=True)
    return 0 if all(line.good for line in lines) else 1


async def _lines(chosen: Sequence[Scenario], asked: argparse.Namespace, seed: int, directory: Path) -> list[Line]:
    subjects = [one for one in chosen if not one.is_control]
    cuts = {one.name: max(1, asked.cuts // (OF_CONTROLS if one.is_control else len(subjects))) for one in chosen}
    lines = []
    with report.progress(f"powercut, seed {seed}", len(chosen) + sum(cuts.values())) as advance:
        for one in chosen:
            advance(f"{one.name} is recorded")
            recording = await recorded(one, directory, seed, asked.messages)
            lines.append(await cut(one, recording, cuts[one.name], seed, advance))
    return lines


def parser(known: Mapping[str, Scenario]) -> argparse.ArgumentParser:
    listed = "\n".join(f"  {name:20} {one.about}{' (control)' * one.is_control}" for name, one in known.items())
    made = argparse.ArgumentParser(
        prog="python -m tests.powercut",
        description="Cut the power of a gateway at any moment, and look whether all that it acknowledged is there.",
        epilog=f"scenarios:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--cuts", type=int, default=CUTS, help=f"cuts of all scenarios together ({CUTS})")
    made.add_argument("--seed", type=int, help="seed of the cuts (random; it is printed)")
    made.add_argument("--only", metavar="NAME", action="append", choices=known, help="a scenario below; repeat")
    made.add_argument("--messages", type=int, default=MESSAGES, help=f"messages in each run of a gateway ({MESSAGES})")
    made.add_argument(
        "--recordings", type=Path, metavar="DIR", help="keep the recordings here, or cut those that are here again"
    )
    made.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    return made
