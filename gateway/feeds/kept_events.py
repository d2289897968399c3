"""Newest events of one startup, bounded by number and in bytes. Pure.

They are kept in groups, one a batch, so that keeping a batch costs little: what is over goes by groups, or a part of
one. Bytes are estimated from what they take in memory, strings, tags, topics and reasons included.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from sys import getsizeof

from gateway.model import Reading, Rejection

EVENT = 300
"""Bytes of an event without what varies."""
FIELD = 100
"""Bytes of a field or a reason without its texts."""
POSITION = 36

Item = Reading | Rejection


class KeptEvents:
    """Events, the oldest first: at most `count` of them, and about `size` bytes."""

    def __init__(self, count: int, size: int) -> None:
        self._count = count
        self._groups: deque[tuple[Sequence[Item], int]] = deque()
        self._kept = 0
        self.max_size = size
        self.size = 0

    def __len__(self) -> int:
        return self._kept

    def __iter__(self) -> Iterator[Item]:
        return self.since(0)

    def add(self, items: Sequence[Item]) -> int:
        """Keep these, and return how many of the oldest, these among them, were dropped for it."""
        before = self._kept + len(items)
        if items:
            self._append(items if len(items) <= self._count else items[-self._count :])
        while self._kept > self._count or self.size > self.max_size:
            self._drop()
        return before - self._kept

    def since(self, place: int) -> Iterator[Item]:
        """Yield the events from a place on: 0 is the oldest."""
        for items, _ in self._groups:
            if place < len(items):
                yield from islice(items, place, None)
            place = max(0, place - len(items))

    def take(self, size: int) -> list[Item]:
        """Remove and return the oldest events, of about `size` bytes, one at least."""
        taken: list[Item] = []
        while self._groups and size > 0:
            items, of_group = self._groups.popleft()
            self._kept -= len(items)
            self.size -= of_group
            several = max(1, len(items) * size // of_group) if of_group > size else len(items)
            taken += items[:several]
            size -= weight(items[:several])
            if several < len(items):
                self._prepend(items[several:])
        return taken

    def clear(self) -> None:
        """Drop all."""
        self._groups.clear()
        self._kept = self.size = 0

    def _append(self, items: Sequence[Item]) -> None:
        size = weight(items)
        self._groups.append((items, size))
        self._kept += len(items)
        self.size += size

    def _drop(self) -> None:
        """Drop the oldest group, or as much of it as is over."""
        items, size = self._groups.popleft()
        self._kept -= len(items)
        self.size -= size
        over = self._kept + len(items) - self._count
        if over <= 0:  # too many bytes: of a large group only the older half goes
            over = len(items) if size <= self.max_size // 2 else (len(items) + 1) // 2
        if over < len(items):
            self._prepend(items[over:])

    def _prepend(self, items: Sequence[Item]) -> None:
        size = weight(items)
        self._groups.appendleft((items, size))
        self._kept += len(items)
        self.size += size


def weight(items: Sequence[Item]) -> int:
    """Estimate the bytes that events take. Numbers are not looked at one by one: this runs for every reading."""
    readings = [item for item in items if isinstance(item, Reading)]
    values = [reading.fields.values() for reading in readings]
    size = EVENT * len(items) + FIELD * sum(map(len, values))
    if str in set(map(type, chain.from_iterable(values))):
        size += _texts(chain.from_iterable(values))
    size += _texts(chain.from_iterable([reading.tags.values() for reading in readings if reading.tags]))
    if len(readings) < len(items):
        size += sum(_of_rejection(item) for item in items if isinstance(item, Rejection))
    return size


def _of_rejection(rejection: Rejection) -> int:
    size = len(rejection.payload) + POSITION * len(rejection.records) + FIELD * len(rejection.reasons)
    reasons = ((reason.where, reason.expected, reason.got, reason.hint) for reason in rejection.reasons)
    return size + _texts((rejection.topic, rejection.device, *chain.from_iterable(reasons)))


def _texts(values: Iterable[object]) -> int:
    return sum(getsizeof(value) for value in values if value.__class__ is str)
