"""A follower of a feed: gathers events between two pushes of a page. Bounded: no page may fill the memory."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from gateway.feeds.live_ring import LiveRing
from gateway.model import Reading, Rejection

MAX_READINGS = 20_000
MAX_REJECTIONS = 40


class Gathered(NamedTuple):
    """Events since the last time, the oldest first. `missed` readings were dropped."""

    readings: list[Reading]
    rejections: list[Rejection]
    missed: int


class Follower:
    """Gathers events as they arrive; `take` returns them."""

    def __init__(self, feed: LiveRing) -> None:
        self._feed = feed
        self._reset()

    async def run(self) -> None:
        """Follow the feed until it is cancelled."""
        async for chunk in self._feed.follow():
            self._missed += chunk.missed or 0
            for event in chunk.events:
                if isinstance(event.of, Reading):
                    self._missed += len(self._readings) == MAX_READINGS
                    self._readings.append(event.of)
                else:
                    self._rejections.append(event.of)

    def take(self) -> Gathered:
        """Return what was gathered, and forget it."""
        gathered = Gathered(list(self._readings), list(self._rejections), self._missed)
        self._reset()
        return gathered

    def _reset(self) -> None:
        self._readings: deque[Reading] = deque(maxlen=MAX_READINGS)
        self._rejections: deque[Rejection] = deque(maxlen=MAX_REJECTIONS)
        self._missed = 0
