"""Live events on their way from a worker to the supervisor.

Gathered for a moment, so that many batches are one message; bounded, so that a slow supervisor costs the oldest events
and nothing else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from gateway.feeds.live_ring import KEPT_BYTES
from gateway.model import Rejection
from gateway.runtime.engine import Readings
from gateway.runtime.worker_messages import Shown


class LiveBuffer:
    """Keeps at most `kept` readings of each startup, and as many rejections in all, until they are taken."""

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._readings: dict[str, deque[object]] = {}
        self._rejections: deque[Rejection] = deque(maxlen=kept)
        self._missed: dict[str, int] = {}

    def add(self, readings: Readings, rejections: Sequence[Rejection]) -> None:
        """Keep what came; the oldest go."""
        for startup, several in readings.items():
            ring = self._readings.setdefault(startup, deque(maxlen=self._kept))
            self._miss(startup, max(0, len(ring) + len(several) - self._kept))
            ring.extend(several)
        for rejection in rejections:
            if len(self._rejections) == self._kept:
                self._miss(self._rejections[0].startup, 1)
            self._rejections.append(rejection.shortened(KEPT_BYTES))

    def take(self) -> Shown | None:
        """What was kept since the last time; None where that is nothing."""
        if not self._readings and not self._rejections:
            return None
        readings, self._readings = self._readings, {}
        rejections, missed = list(self._rejections), self._missed
        self._rejections.clear()
        self._missed = {}
        return Shown({startup: list(ring) for startup, ring in readings.items()}, rejections, missed)  # type: ignore[arg-type]

    def _miss(self, startup: str, events: int) -> None:
        if events:
            self._missed[startup] = self._missed.get(startup, 0) + events
