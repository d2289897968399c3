"""Tables of the mutants: for a terminal, and for docs/guarantees.md."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from tests.builders import ROOT
from tests.harness.command import coloured
from tests.mutants.mutants import MUTANTS
from tests.mutants.run import Line

GUARANTEES = ROOT / "docs" / "guarantees.md"
BEGIN, END = "<!-- mutants: made by `make mutants ARGS=--write` -->\n", "<!-- end of the mutants -->"


def table(lines: Sequence[Line]) -> Table:
    """Return a row for each mutant."""
    shown = Table(title="Wrong changes, and the tests that notice", title_justify="left", show_lines=False)
    for name in ("mutant", "promise", "file", "killed by"):
        shown.add_column(name)
    for line in lines:
        verdict = "killed" if line.good else "survives" if line.passes else "its test fails without it"
        mutant = line.mutant
        test = escape(mutant.test.rpartition("/")[2])
        shown.add_row(
            escape(mutant.name), str(mutant.promise), mutant.file, f"{test} {coloured(verdict, good=line.good)}"
        )
    return shown


def markdown() -> str:
    """Return the table of docs/guarantees.md."""
    rows = [f"| {one.promise} | {one.name} | `gateway/{one.file}` | `{one.test}` |" for one in MUTANTS]
    return "\n".join(["| promise | wrong change | in | killed by |", "|---|---|---|---|", *rows, ""])


def with_table(text: str) -> str:
    """Return the text of the document with the table between its markers."""
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n{markdown()}\n{END}{after}"
