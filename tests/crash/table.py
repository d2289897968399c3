"""Table of the scenarios, as a person reads it: green holds, red does not."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from tests.crash.verdict import Line
from tests.harness.command import coloured


def table(lines: Sequence[Line]) -> Table:
    """Return a row for each scenario."""
    shown = Table(title="What is left after a fault", title_justify="left", show_lines=True)
    shown.add_column("fault", ratio=3)
    for name in ("sent", "acknowledged", "stored", "dead letters", "lost", "twice", "ledger", "stall", "restarts"):
        shown.add_column(name, justify="right")
    for line in lines:
        shown.add_row(*_cells(line))
    shown.caption = (
        "wanted: of what the broker acknowledged nothing lost, nothing stored twice, the ledger balanced, no end of the"
        " gateway by itself"
    )
    return shown


def _cells(line: Line) -> list[str]:
    answers = line.as_json()
    failed = [check.what for check in line.checks if not check.good]
    failed += [f"{line.misjudged} good as dead letters, or bad in the store"] if line.misjudged else []
    failed += [] if line.is_stable else [f"ended {line.exits} times by itself"]
    more = "".join(f"\n[red]failed: {escape(what)}[/]" for what in failed)
    return [
        f"[bold]{line.scenario.name}[/] [dim]{line.scenario.shape}, seed {line.seed}[/]\n"
        f"{escape(line.scenario.about)}{more}",
        f"{line.sent:,}",
        f"{answers['acknowledged']:,}",
        f"{answers['stored']:,}",
        f"{answers['dead_lettered']:,}",
        coloured(f"{line.lost:,}", good=not line.lost),
        coloured(f"{line.duplicated:,}", good=not line.duplicated),
        coloured("balances" if line.is_balanced else "does not", good=line.is_balanced),
        f"{line.stall:.1f} s",
        str(line.restarts),
    ]
