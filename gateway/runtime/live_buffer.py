"""The listener that holds a worker's live events for the supervisor.

They are gathered for a moment, so that many batches become one message, and bounded, so that a slow supervisor costs
the oldest events and nothing else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from gateway.feeds.live_ring import KEPT_BYTES
from gateway.model import Reading, Readings, Rejection
from gateway.runtime.worker_messages import LiveEvents


class LiveBuffer:
    """Keeps at most `kept` readings of each startup, and as many rejections in all, until they are taken."""

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._readings: dict[str, deque[Reading]] = {}
        self._rejections: deque[Rejection] = deque(maxlen=kept)
        self._missed: dict[str, int] = {}

    def accepted(self, readings: Readings, /) -> None:
        """Keep readings; the oldest go."""
        for startup, several in readings.items():
            ring = self._readings.setdefault(startup, deque(maxlen=self._kept))
            self._miss(startup, max(0, len(ring) + len(several) - self._kept))
            ring.extend(several)

    def rejected(self, rejections: Sequence[Rejection], /) -> None:
        """Keep rejections; the oldest go."""
        for rejection in rejections:
            if len(self._rejections) == self._kept:
                self._miss(self._rejections[0].startup, 1)
            self._rejections.append(rejection.shortened(KEPT_BYTES))

    def take(self) -> LiveEvents | None:
        """Return the events since the last call; None where there are none."""
        if not self._readings and not self._rejections:
            return None
        readings, self._readings = self._readings, {}
        rejections, missed = list(self._rejections), self._missed
        self._rejections.clear()
        self._missed = {}
        return LiveEvents({startup: list(ring) for startup, ring in readings.items()}, rejections, missed)

    def _miss(self, startup: str, events: int) -> None:
        if events:
            self._missed[startup] = self._missed.get(startup, 0) + events
