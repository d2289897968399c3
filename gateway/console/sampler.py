"""A sampler of the ledger: every two seconds, once for all open pages. The last 15 minutes are kept for rates."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.errors import StateUnavailable
from gateway.model import Counts
from gateway.state.reader import StateReader

EVERY = 2.0
KEPT = 450
RATE_OVER = 5  # samples


@dataclass(frozen=True, slots=True)
class Sample:
    """A ledger at one moment (Unix seconds)."""

    at: float
    balance: Mapping[str, Counts]

    def counts(self, startup: str) -> Counts:
        return self.balance.get(startup, Counts())


@dataclass(frozen=True, slots=True)
class Rates:
    """Records per second."""

    received: float = 0.0
    accepted: float = 0.0
    rejected: float = 0.0


class Sampler:
    """Samples of the last 15 minutes, the oldest first."""

    def __init__(self, state: StateReader, kept: int = KEPT) -> None:
        self._state = state
        self.samples: deque[Sample] = deque([Sample(0.0, {})], maxlen=kept)
        self.problem = ""

    @property
    def newest(self) -> Sample:
        return self.samples[-1]

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            try:
                balance = await asyncio.to_thread(self._state.balance)
            except StateUnavailable as error:
                self.problem = str(error)
            else:
                self.problem = ""
                self.add(Sample(time.time(), balance))
            await asyncio.sleep(EVERY)

    def add(self, sample: Sample) -> None:
        """Add a sample; the first replaces the empty one from before."""
        if not self.newest.at:
            self.samples.clear()
        self.samples.append(sample)

    def rates(self, startup: str) -> Rates:
        """Return the rates over the last ten seconds."""
        return self._rates(startup, len(self.samples) - 1)

    def history(self, startup: str, after: float) -> list[tuple[float, float]]:
        """Return `(Unix seconds, records received per second)` of every sample after a moment."""
        return [
            (sample.at, self._rates(startup, place).received)
            for place, sample in enumerate(self.samples)
            if place >= RATE_OVER and sample.at > after
        ]

    def _rates(self, startup: str, place: int) -> Rates:
        newest = self.samples[place]
        first = max(0, place - RATE_OVER)
        oldest = self.samples[first]
        elapsed = newest.at - oldest.at
        if elapsed <= 0:
            return Rates()
        now, then = newest.counts(startup), oldest.counts(startup)
        return Rates(
            received=(now.received - then.received) / elapsed,
            accepted=(now.accepted - then.accepted) / elapsed,
            rejected=(now.rejected - then.rejected) / elapsed,
        )
