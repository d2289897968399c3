"""Gathers a feed's events between two pushes of one page. Bounded: who looks away must not fill the memory."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from gateway.feeds.live_ring import LiveRing
from gateway.model import Reading, Rejection

MAX_READINGS = 20_000
MAX_REJECTIONS = 40


class Gathered(NamedTuple):
    """What came since the last time, the oldest first. `missed` readings had to go."""

    readings: list[Reading]
    rejections: list[Rejection]
    missed: int


class Follower:
    """Appends events as they come; `take` hands them over."""

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
        gathered = Gathered(list(self._readings), list(self._rejections), self._missed)
        self._reset()
        return gathered

    def _reset(self) -> None:
        self._readings: deque[Reading] = deque(maxlen=MAX_READINGS)
        self._rejections: deque[Rejection] = deque(maxlen=MAX_REJECTIONS)
        self._missed = 0
