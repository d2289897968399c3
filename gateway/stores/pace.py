"""Bytes that one write may send, learned from the writes before: a slow link never gets a long body through in time.

Halved when a write takes too long, doubled again when one is quick. A single reading that is longer than that gets
the time that it needs at such a pace.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

SMALLEST = 16 << 10
"""Bytes below which time is not the body's fault."""
QUICK = 4
"""A write is quick if it takes this part of its time: two of its bodies would still be in time."""
AFTER_TOO_LONG = 16
"""Quick writes until a longer body is tried where one was rejected for its length: that limit seldom changes."""


class Pace:
    """Pace of writes to one bucket. `limit` is what a body should not exceed, `most` at most."""

    def __init__(self, most: int) -> None:
        self.limit = most
        self._most = most
        self._quick = 0
        self._wanted = 1

    def seconds(self, size: int, timeout: float) -> float:
        """Return how long a write of `size` bytes may take where the usual ones may take `timeout`."""
        return timeout * max(1.0, size / max(self.limit, SMALLEST))

    def was_slow(self, size: int) -> None:
        """Note a write that took too long."""
        if size > SMALLEST:
            self._lower(max(SMALLEST, min(self.limit, size) // 2), wanted=1)

    def was_too_long(self, size: int) -> None:
        """Note a write that was rejected for its length."""
        self._lower(max(1, min(self.limit, size) // 2), wanted=AFTER_TOO_LONG)

    def took(self, size: int, seconds: float, timeout: float) -> None:
        """Note a write that succeeded."""
        if seconds * QUICK > timeout or size * 2 < self.limit:
            return
        self._quick += 1
        if self._quick >= self._wanted:
            self.limit, self._quick = min(self._most, self.limit * 2), 0

    def _lower(self, limit: int, wanted: int) -> None:
        self.limit, self._quick, self._wanted = limit, 0, wanted


def cut(lines: Sequence[bytes], size: int) -> Iterator[Sequence[bytes]]:
    """Yield the lines in parts of at most `size` bytes, or of one line; mostly that is one part."""
    start = 0
    while start < len(lines):
        count = fitting(lines, size, start)
        yield lines[start : start + count]
        start += count


def fitting(lines: Sequence[bytes], size: int, start: int = 0) -> int:
    """Return how many of the lines from `start` on fit into `size` bytes with a newline each, at least one."""
    if not start and sum(map(len, lines)) + len(lines) <= size:
        return len(lines)
    end = start
    while end < len(lines) and (size := size - len(lines[end]) - 1) >= 0:
        end += 1
    return max(1, end - start)
