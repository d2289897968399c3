"""`python -m tests.mutants [options]`: apply, run, print; write the table of docs/guarantees.md."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tests.harness import command
from tests.mutants.mutants import MUTANTS
from tests.mutants.run import Line, copied, judged
from tests.mutants.table import GUARANTEES, table, with_table


def main(arguments: Sequence[str] | None = None) -> int:
    """Run mutants, and return the exit status: 1 if one survives, 2 if something cannot run."""
    known = {one.name: one for one in MUTANTS}
    parser = command.parser(
        "tests.mutants",
        "Small wrong changes to the gateway, each killed by a named test.",
        "mutants",
        {name: one.test for name, one in known.items()},
    )
    parser.add_argument("--write", action="store_true", help="write the table of docs/guarantees.md, and run nothing")
    asked = parser.parse_args(arguments)
    if asked.write:
        GUARANTEES.write_text(with_table(GUARANTEES.read_text(encoding="utf-8")), encoding="utf-8")
        return 0
    passed: dict[str, bool] = {}
    with copied() as tree:

        async def run_one(name: str) -> Line:
            return await asyncio.to_thread(judged, known[name], tree, passed)

        status, _ = command.run("mutants", asked.only or list(known), run_one, table, as_json=asked.json)
    return status
