"""Command line of a harness: choose scenarios, run them, print a table."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench import report
from bench.children import BenchError
from tests.servers import ServerFailed

WIDTH = 170


class Line(Protocol):
    """A line of the table."""

    @property
    def good(self) -> bool: ...

    def as_json(self) -> dict[str, Any]: ...


L = TypeVar("L", bound=Line)


def parser(program: str, description: str, kind: str, known: Mapping[str, str]) -> argparse.ArgumentParser:
    """Return the options that all harnesses have; `known` says what each scenario is about."""
    listed = "\n".join(f"  {name:28} {about}" for name, about in known.items())
    made = argparse.ArgumentParser(
        prog=f"python -m {program}",
        description=description,
        epilog=f"{kind}:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--only", metavar="NAME", action="append", choices=known, help=f"one of the {kind} below; repeat")
    made.add_argument("--json", action="store_true", help="print one JSON object for each on stdout")
    return made


def run(
    kind: str,
    names: Sequence[str],
    run_one: Callable[[str], Awaitable[L]],
    table: Callable[[Sequence[L]], Table],
    *,
    as_json: bool,
    jobs: int = 1,
) -> tuple[int, list[L]]:
    """Run scenarios by name, `jobs` of them at a time; return the exit status (1 if a target is missed, 2 if something
    cannot run) and the lines."""
    errors = Console(stderr=True, highlight=False)
    if sys.platform != "linux":
        errors.print(f"{kind}: this reads /proc, and runs on Linux only")
        return 2, []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)  # so that child processes are ended, also in the background
    found: dict[str, L] = {}

    async def run_all(advance: report.Advance) -> None:
        places = asyncio.Semaphore(jobs)

        async def run_in_turn(name: str) -> None:
            async with places:
                advance(name)
                try:
                    found[name] = line = await run_one(name)
                except (BenchError, ServerFailed, AssertionError) as error:
                    errors.print(f"[red]{name}:[/] {escape(str(error))}")
                else:
                    if as_json:
                        print(json.dumps(line.as_json()), flush=True)

        async with asyncio.TaskGroup() as tasks:
            for name in names:
                tasks.create_task(run_in_turn(name))

    with report.progress(kind, len(names)) as advance:
        asyncio.run(run_all(advance))
    lines = [found[name] for name in names if name in found]
    out = Console(stderr=as_json)
    (out if out.is_terminal else Console(stderr=as_json, width=WIDTH)).print(table(lines))
    if len(lines) < len(names):
        return 2, lines
    return (0 if all(line.good for line in lines) else 1), lines


def coloured(text: str, *, good: bool) -> str:
    """Return a cell: green holds, red does not."""
    return f"[{'green' if good else 'red'}]{text}[/]"
