"""How long it takes to make one Reading: a frozen, slotted dataclass against a named tuple of the same fields.

    python docs/decisions/experiments/0002_hot_path_types.py [ROUNDS]

Both are made in turns, a round each, and the best round counts, so that other work on the machine matters little.
"""

from __future__ import annotations

import platform
import sys
import timeit
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

TIMES = 20_000
TAGS: Mapping[str, str] = {"firmware": "1.2"}
FIELDS: Mapping[str, float] = {"temperature": 21.5, "humidity": 40.0}


@dataclass(frozen=True, slots=True)
class AsDataclass:
    """`gateway.model.Reading` as a frozen, slotted dataclass."""

    startup: str
    device: str
    measurement: str
    tags: Mapping[str, str]
    fields: Mapping[str, float]
    time_ns: int


class AsNamedTuple(NamedTuple):
    """`gateway.model.Reading` as it is."""

    startup: str
    device: str
    measurement: str
    tags: Mapping[str, str]
    fields: Mapping[str, float]
    time_ns: int


def measure(rounds: int) -> dict[str, float]:
    """Nanoseconds to make one, by the name of its type."""
    timers = {kind.__name__: _timer(kind) for kind in (AsDataclass, AsNamedTuple)}
    best = dict.fromkeys(timers, float("inf"))
    for _ in range(rounds):
        for name, timer in timers.items():
            best[name] = min(best[name], timer.timeit(TIMES) / TIMES * 1e9)
    return best


def _timer(kind: type) -> timeit.Timer:
    names = {"make": kind, "tags": TAGS, "fields": FIELDS}
    return timeit.Timer("make('acme', 'air-01', 'climate', tags, fields, 1795421730000000000)", globals=names)


def main(rounds: int = 200) -> None:
    """Measure and print."""
    best = measure(rounds)
    print(f"Python {platform.python_version()}, best of {rounds} rounds")
    for name, nanoseconds in best.items():
        print(f"{name:13} {nanoseconds:5.0f} ns")
    print(f"ratio         {best['AsDataclass'] / best['AsNamedTuple']:5.1f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
