"""Listener that holds a worker's live events for the supervisor.

They are gathered for a moment, so that many batches become one message, and bounded for each startup by number and in
bytes, so that a slow supervisor costs the oldest events of those that send many, and nothing else. A message is
bounded too: what is over waits for the next.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from gateway.feeds.kept_events import KeptEvents
from gateway.feeds.live_ring import KEPT_BYTES
from gateway.model import Reading, Readings, Rejection
from gateway.runtime.worker_messages import LiveEvents

SIZE = 1 << 20
"""Bytes of events that are kept of a startup."""
MESSAGE = 128 << 10
"""Bytes of the events of one message, about: both ends occupy their event loops with it."""


class LiveBuffer:
    """Keeps at most `kept` events of each startup, until they are taken."""

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._events: dict[str, KeptEvents] = {}
        self._missed: Counter[str] = Counter()

    def accepted(self, readings: Readings, /) -> None:
        """Keep readings; the oldest events go."""
        for startup, several in readings.items():
            self._add(startup, several)

    def rejected(self, rejections: Sequence[Rejection], /) -> None:
        """Keep rejections; the oldest events go."""
        for rejection in rejections:
            self._add(rejection.startup, [rejection.shortened(KEPT_BYTES)])

    def take(self) -> LiveEvents | None:
        """Return events since the last call, those of startups that have waited longest first; None where there are
        none."""
        if not self._events:
            return None
        readings: dict[str, list[Reading]] = {}
        rejections: list[Rejection] = []
        missed: dict[str, int] = {}
        left = MESSAGE
        for startup in list(self._events):
            events = self._events.pop(startup)
            before = events.size
            several = events.take(left)
            left -= before - events.size
            if events:
                self._events[startup] = events  # behind the others
            readings[startup] = [one for one in several if isinstance(one, Reading)]
            rejections += [one for one in several if isinstance(one, Rejection)]
            if lost := self._missed.pop(startup, 0):
                missed[startup] = lost
            if left <= 0:
                break
        return LiveEvents({startup: several for startup, several in readings.items() if several}, rejections, missed)

    def _add(self, startup: str, items: Sequence[Reading | Rejection]) -> None:
        events = self._events.get(startup) or self._events.setdefault(startup, KeptEvents(self._kept, SIZE))
        if lost := events.add(items):
            self._missed[startup] += lost
