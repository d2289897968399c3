"""Limits on guessing tokens. A right token is never delayed; the answer to a wrong one is, after a few.

Somebody who guesses learns that a token is wrong only when the answer comes, and each answer that waits takes one of a
limited number of connections.
"""

from __future__ import annotations

from collections import OrderedDict

from gateway.api.connections import subscriber

WINDOW = 60.0
FREE = 10
"""Wrong tokens of one address in a window that are answered at once."""
FREE_IN_ALL = 300
DELAY = 2.0
MAX_ADDRESSES = 4096


class Guesses:
    """Counts wrong tokens by address, and in all."""

    def __init__(self) -> None:
        self._in_all = (0.0, 0)
        self._by_address: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def wrong(self, address: str, now: float) -> float:
        """Note a wrong token at `now`, in seconds; return the seconds by which its answer is to be delayed."""
        key = subscriber(address)
        self._in_all = counted = _count(self._in_all, now)
        self._by_address[key] = own = _count(self._by_address.get(key, (now, 0)), now)
        self._by_address.move_to_end(key)
        if len(self._by_address) > MAX_ADDRESSES:
            self._by_address.popitem(last=False)
        return DELAY if own[1] > FREE or counted[1] > FREE_IN_ALL else 0.0


def _count(kept: tuple[float, int], now: float) -> tuple[float, int]:
    began, count = kept
    return (began, count + 1) if began <= now < began + WINDOW else (now, 1)
