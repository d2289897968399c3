"""Share of readings that a store refused of those it was given lately. Pure."""

from __future__ import annotations

RECENT = 200
"""Readings that count, about: of more, the earlier ones count less and less."""
AT_LEAST = 100
"""Readings below which a share says nothing."""


class RefusedShare:
    """Counts of one lane. Too high is more than half."""

    def __init__(self) -> None:
        self._given = 0.0
        self._refused = 0.0

    def add(self, *, stored: int = 0, refused: int = 0) -> None:
        """Count readings."""
        self._given += stored + refused
        self._refused += refused
        if self._given > RECENT:
            self._refused *= RECENT / self._given
            self._given = RECENT

    @property
    def is_too_high(self) -> bool:
        return self._given >= AT_LEAST and self._refused * 2 > self._given
