"""Report of a path: one JSON object, and the rows of a table. Progress goes to stderr."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench import machine
from bench.children import ROOT

WIDTH = 110
RESULTS = ROOT / "bench" / "results"

Advance = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table. `good` is None if there is no target."""

    what: str
    value: str
    wanted: str = ""
    good: bool | None = None

    @property
    def colour(self) -> str:
        return {None: "default", True: "green", False: "red"}[self.good]


@dataclass(frozen=True, slots=True)
class Report:
    """Figures of a path, its rows, and each single measurement. `whole` is False if a message is lost."""

    figures: dict[str, Any]
    rows: Sequence[Row]
    measurements: list[dict[str, Any]] = field(default_factory=list)
    whole: bool = True

    @property
    def path(self) -> str:
        return str(self.figures["path"])


@contextmanager
def progress(path: str, steps: int) -> Iterator[Advance]:
    """Show a bar of so many steps on stderr. Yield a function that names the next step."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(path, total=steps)
        begun = False

        def advance(what: str) -> None:
            nonlocal begun
            bar.update(task, description=f"{path}: {what}", advance=1 if begun else 0)
            begun = True

        yield advance


def table(reports: Sequence[Report]) -> Table:
    """Return a table of all rows: green has reached its target, red has not."""
    shown = Table(title="Testbed Gateway, measured", title_justify="left")
    shown.add_column("path")
    shown.add_column("figure", no_wrap=True)
    shown.add_column("value", justify="right")
    shown.add_column("wanted", justify="right", style="dim")
    for report in reports:
        for number, row in enumerate(report.rows):
            shown.add_row(report.path if not number else "", row.what, f"[{row.colour}]{row.value}[/]", row.wanted)
        shown.add_section()
    return shown


def save(reports: Sequence[Report], taken_on: dict[str, Any], directory: Path = RESULTS) -> Path:
    """Write the results of a run to a file of its own, and return its path."""
    directory.mkdir(parents=True, exist_ok=True)
    name = "all" if len(reports) > 1 else reports[0].path
    path = directory / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{name}.json"
    paths = [report.figures | {"measurements": report.measurements} for report in reports]
    path.write_text(json.dumps(taken_on | {"paths": paths}, indent=1) + "\n")
    return path


def console(*, to_stderr: bool) -> Console:
    """Return the console for tables: as wide as the terminal, or wide enough if there is none."""
    out = Console(stderr=to_stderr)
    return out if out.is_terminal else Console(stderr=to_stderr, width=WIDTH)


def taken_on() -> dict[str, Any]:
    """Return the machine and the versions, looked up before anything is measured."""
    return machine.describe()
