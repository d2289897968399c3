"""A follower of a feed: gathers events between two pushes of a page. Bounded: no page may fill the memory, or the time.

Once it has gathered what a page can draw, it waits for the next push, and the feed counts what it misses meanwhile.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple

from gateway.feeds.kept_events import KeptEvents
from gateway.feeds.live_ring import LiveRing
from gateway.model import Reading, Rejection

MAX_READINGS = 20_000
MAX_BYTES = 2 * 1024 * 1024
"""Characters of the gathered texts, with a constant for each reading."""
READING_BYTES = 100
MAX_REJECTIONS = 40
REJECTIONS_BYTES = 512 * 1024


class Gathered(NamedTuple):
    """Events since the last time, the oldest first. `missed` readings were dropped."""

    readings: list[Reading]
    rejections: list[Rejection]
    missed: int


class Follower:
    """Gathers events as they arrive; `take` returns them."""

    def __init__(self, feed: LiveRing) -> None:
        self._feed = feed
        self._room = asyncio.Event()
        self._reset()

    async def run(self) -> None:
        """Follow the feed until it is cancelled."""
        async for chunk in self._feed.follow():
            self._missed += chunk.missed or 0
            for event in chunk.events:
                if isinstance(event.of, Reading):
                    self._gather(event.of)
                else:
                    self._rejections.add([event.of])
            if len(self._readings) >= MAX_READINGS or self._bytes >= MAX_BYTES // 2:
                self._room.clear()
                await self._room.wait()

    def take(self) -> Gathered:
        """Return what was gathered, and forget it."""
        gathered = Gathered(
            list(self._readings), [one for one in self._rejections if isinstance(one, Rejection)], self._missed
        )
        self._reset()
        return gathered

    def _gather(self, reading: Reading) -> None:
        self._readings.append(reading)
        self._bytes += _size(reading)
        while len(self._readings) > MAX_READINGS or self._bytes > MAX_BYTES:
            self._bytes -= _size(self._readings.popleft())
            self._missed += 1

    def _reset(self) -> None:
        self._readings: deque[Reading] = deque()
        self._rejections = KeptEvents(MAX_REJECTIONS, REJECTIONS_BYTES)
        self._bytes = 0
        self._missed = 0
        self._room.set()


def _size(reading: Reading) -> int:
    texts = (value for values in (reading.tags, reading.fields) for value in values.values() if isinstance(value, str))
    return READING_BYTES + sum(map(len, texts))
