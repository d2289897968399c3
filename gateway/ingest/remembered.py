"""Values found once and remembered, by keys that devices choose. Pure.

Bounded in bytes, for each owner and for all together: whoever invents keys pushes out its own only. Where all together
take too much, the owner with the most gives way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from sys import getsizeof
from typing import Generic, TypeVar

IN_ALL = 128 << 20

V = TypeVar("V")


@dataclass(slots=True, eq=False)
class _Owned:
    """Keys of one owner with the size of each, the oldest first."""

    keys: deque[tuple[str, int]] = field(default_factory=deque)
    size: int = 0


class Remembered(Generic[V]):
    """Look into `by_key`, `add` what is not there. `limit` returns the bytes that an owner may have."""

    def __init__(self, limit: Callable[[str], int]) -> None:
        self.by_key: dict[str, V] = {}
        self._limit = limit
        self._owned: dict[str, _Owned] = {}
        self._size = 0

    def add(self, owner: str, key: str, value: V, size: int) -> None:
        """Remember a value for a new key; forget the older half of an owner that has too much."""
        limit = self._limit(owner)
        if size > limit:
            return
        owned = self._owned.get(owner) or self._owned.setdefault(owner, _Owned())
        self.by_key[key] = value
        owned.keys.append((key, size))
        owned.size += size
        self._size += size
        if owned.size > limit:
            self._forget_half(owned)
        if self._size > IN_ALL:
            self._forget_half(max(self._owned.values(), key=lambda one: one.size))

    def _forget_half(self, owned: _Owned) -> None:
        left = owned.size // 2
        while owned.size > left:
            key, size = owned.keys.popleft()
            del self.by_key[key]
            owned.size -= size
            self._size -= size


def texts_size(*texts: str) -> int:
    """Return the bytes that strings take in memory."""
    return sum(map(getsizeof, texts))
