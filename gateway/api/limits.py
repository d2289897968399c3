"""Limits of what the requests of one startup may take, within those of all: places, turns of the event loop, and the
threads that work for them.

A request waits for its place for a few seconds, then it is answered with 429 where its own startup has too many under
way, or with 503 where all together have. Requests begin one after the other, and nothing large is computed in the event
loop: see `gateway.computing`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from gateway.computing import Computing
from gateway.fair_lock import FairLock
from gateway.shares import Shares

WAIT = 10.0
"""Seconds that a request waits for its place."""
LONGEST_PAUSE = 0.02

T = TypeVar("T")


class Limits:
    """Limits of one HTTP application. `computing` is the thread of the store that it answers from."""

    def __init__(self, computing: Computing | None = None) -> None:
        self.followers = Shares("live connections", each=32, total=256)
        self.replays = Shares("requests that replay dead letters", each=2, total=16)
        self.computing = computing or Computing()
        self.monitoring = asyncio.Lock()
        """Held for an answer about all startups, one at a time: there may be a thousand."""
        self._reads = Shares("requests for dead letters and counts", each=4, total=32)
        self._reading = ThreadPoolExecutor(4, "http-state")
        self._beginning = FairLock()

    async def begin(self, owner: Hashable) -> None:
        """Wait until a request may begin. One begins in a turn of the event loop, and owners take turns; the next one
        begins when the loop has had as much time for other work."""
        await self._beginning.acquire(owner)
        began = time.monotonic()

        def in_the_next_turn() -> None:
            self._beginning.release(min(LONGEST_PAUSE, time.monotonic() - began))

        asyncio.get_running_loop().call_soon(in_the_next_turn)

    async def read(self, startup: str, work: Callable[[], T]) -> T:
        """Run `work`, which asks the state database for something small of this startup, in a thread.

        Raises:
            Crowded: too many of these are under way.
        """
        async with self._reads.place_within(startup, WAIT):
            return await asyncio.get_running_loop().run_in_executor(self._reading, work)

    async def compute(self, startup: str, work: Callable[[], T]) -> T:
        """Run `work`, which reads a page of this startup's state and encodes it, in the computing thread.

        Raises:
            Crowded: too many of these are under way.
        """
        async with self._reads.place_within(startup, WAIT):
            return await self.computing.run(startup, work)
