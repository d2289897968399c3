"""`python -m tests.attack [options]`: choose, run, print."""

from __future__ import annotations

from collections.abc import Sequence

from tests.attack.bed import Scale
from tests.attack.measure import Line, Load, measured
from tests.attack.scenario import scenarios
from tests.attack.table import table
from tests.harness import command

SHORT = (Load(messages=20, patience=20.0), Scale(seconds=2.0, lead=0.5, share=0.1))


def main(arguments: Sequence[str] | None = None) -> int:
    """Attack, and return the exit status: 1 if a target is missed, 2 if something cannot run."""
    known = scenarios()
    parser = command.parser(
        "tests.attack",
        "Attacks by one startup, or by anybody, and what a well-behaved startup notices.",
        "attacks",
        {name: one.about for name, one in known.items()},
    )
    parser.add_argument("--short", action="store_true", help="two seconds of each attack: too few to judge a p99")
    parser.add_argument("--messages", type=int, help="messages of the victim in each phase (100)")
    asked = parser.parse_args(arguments)
    load, scale = SHORT if asked.short else (Load(), Scale())
    if asked.messages:
        load = Load(messages=asked.messages)

    async def run_one(name: str) -> Line:
        return await measured(known[name], load, scale)

    status, _ = command.run("attack", asked.only or list(known), run_one, table, as_json=asked.json)
    return status
