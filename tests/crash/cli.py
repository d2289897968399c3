"""`python -m tests.crash [options]`: choose, run, print, save."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

from bench import report
from tests.crash.bed import SHORT, Scale
from tests.crash.scenario import scenarios
from tests.crash.table import table
from tests.crash.verdict import Line, judged_apart
from tests.harness import command

RESULTS = report.RESULTS / "crash.json"
WITHIN = 240.0
"""Seconds after which a scenario is given up."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run scenarios, and return the exit status: 1 if a target is missed, 2 if something cannot run."""
    known = scenarios()
    parser = command.parser(
        "tests.crash",
        "Faults under load: what is lost, stored twice or counted wrongly.",
        "faults",
        {name: one.about for name, one in known.items()},
    )
    parser.add_argument("--short", action="store_true", help="the faults that matter most, with few messages")
    parser.add_argument("--seed", type=int, default=1, help="where all chance comes from (1)")
    parser.add_argument(
        "--logs",
        type=Path,
        metavar="DIR",
        help="keep the gateway's log of each that fails in DIR",
    )
    parser.add_argument("--jobs", type=int, default=2, help="how many run at a time, mostly waiting (2)")
    parser.add_argument("--list", action="store_true", help="print the names, and run nothing")
    asked = parser.parse_args(arguments)
    if asked.list:
        print("\n".join(f"{name:44} {one.about}" for name, one in known.items()))
        return 0
    scale = SHORT if asked.short else Scale()
    names = asked.only or [name for name, one in known.items() if one.short or not asked.short]

    async def bounded(name: str) -> Line:
        try:
            async with asyncio.timeout(WITHIN):
                return await judged_apart(known[name], scale, asked.seed, asked.logs)
        except TimeoutError:
            raise AssertionError(f"it is not over after {WITHIN:g} s") from None
        except OSError as error:
            raise AssertionError(f"the harness failed: {error!r}") from error

    taken_on = report.taken_on()
    status, lines = command.run("crash", names, bounded, table, as_json=asked.json, jobs=asked.jobs)
    if len(names) == len(known):
        found = taken_on | {"seed": asked.seed, "scenarios": [line.as_json() for line in lines]}
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    return status
