"""Turns of the sources of messages: start-time fair queuing over processing time. Pure.

The source that has used less than the others comes first, so that a startup with a few messages never waits behind one
with many. Time that nobody used is not saved up.
"""

from __future__ import annotations

from collections.abc import Iterable


class Turns:
    """`order` the names, `charge` each for its turn."""

    def __init__(self) -> None:
        self._now = 0.0
        self._next: dict[str, float] = {}

    def order(self, names: Iterable[str]) -> list[str]:
        """Return the names, those that have used the least first."""
        return sorted(names, key=self._start)

    def charge(self, name: str, seconds: float) -> None:
        """Note a turn. Call in the order of the turns."""
        self._now = max(self._now, self._start(name))
        self._next[name] = self._now + seconds

    def _start(self, name: str) -> float:
        return max(self._now, self._next.get(name, 0.0))
