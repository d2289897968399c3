"""Table of the cuts, as a person reads it: green holds, red does not."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from tests.powercut.run import Line

PROBLEMS = ("invented", "claimed", "unbalanced", "damaged", "crashed")


def table(lines: Sequence[Line], seed: int) -> Table:
    """Return a row for each scenario and each control."""
    shown = Table(title=f"Power cuts, seed {seed}", title_justify="left")
    shown.add_column("scenario", ratio=2)
    shown.add_column("fsyncs", justify="right", style="dim")
    shown.add_column("cuts", justify="right")
    for name in ("dropped", "reordered", "torn"):
        shown.add_column(name, justify="right", style="dim")
    for name in ("acknowledged", "found", "lost"):
        shown.add_column(name, justify="right")
    shown.add_column("verdict", ratio=1)
    for number, line in enumerate(lines):
        if line.scenario.is_control and number and not lines[number - 1].scenario.is_control:
            shown.add_section()
        shown.add_row(*_cells(line))
    return shown


def _cells(line: Line) -> Sequence[str]:
    body = line.as_json()
    counts = ("fsyncs", "cuts", "dropped", "reordered", "torn", "acknowledged", "found")
    colour = "green" if line.good else "red"
    what = f"{line.scenario.name}\n[dim]{escape(line.scenario.about)}[/]"
    lost = f"[{colour}]{body['lost']:,}[/]"
    return [what, *(f"{body[name]:,}" for name in counts), lost, f"[{colour}]{_verdict(line)}[/]"]


def _verdict(line: Line) -> str:
    if line.scenario.is_control:
        return "lost, as it must be" if line.good else "nothing lost: the cuts prove nothing"
    if line.good:
        return "nothing lost"
    body = line.as_json()
    return ", ".join(f"{name} {body[name]}" for name in ("lost", *PROBLEMS) if body[name])
