"""A limit on wrong tokens, by the address that they come from."""

from __future__ import annotations

GUESSES = 10
WINDOW = 60.0
MAX_ADDRESSES = 1000


class Throttle:
    """Ten wrong tokens per minute from one address are answered. The right token is not limited."""

    def __init__(self) -> None:
        self._failures: dict[str, list[float]] = {}

    def wait(self, address: str, now: float) -> float:
        """Return the seconds until another wrong token is answered; 0 if it is at once."""
        recent = self._recent(address, now)
        return recent[0] + WINDOW - now if len(recent) >= GUESSES else 0.0

    def failed(self, address: str, now: float) -> None:
        """Note a wrong token."""
        recent = [*self._recent(address, now), now][-GUESSES:]
        self._failures.pop(address, None)
        while len(self._failures) >= MAX_ADDRESSES:
            del self._failures[next(iter(self._failures))]
        self._failures[address] = recent

    def _recent(self, address: str, now: float) -> list[float]:
        return [moment for moment in self._failures.get(address, ()) if moment > now - WINDOW]
