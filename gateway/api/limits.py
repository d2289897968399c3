"""Limits of what the requests of one startup may take, within those of all: places, and threads that work for them.

A request waits for its place for a few seconds, then it is answered with 429 where its own startup has too many under
way, or with 503 where all together have. Nothing large is computed in the event loop: it goes to threads, and those are
few, so that they do not keep the loop from the interpreter either.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from gateway.shares import Shares

WAIT = 10.0
"""Seconds that a request waits for its place."""

T = TypeVar("T")


class Limits:
    """Limits of one HTTP application."""

    def __init__(self) -> None:
        self.followers = Shares("live connections", each=32, total=256)
        self.replays = Shares("requests that replay dead letters", each=2, total=16)
        self._reads = Shares("requests for dead letters and counts", each=4, total=32)
        self._reading = ThreadPoolExecutor(4, "http-state")
        self._encoding = ThreadPoolExecutor(1, "http-encode")

    async def read(self, startup: str, work: Callable[[], T]) -> T:
        """Run `work`, which reads the state database for this startup, in a thread.

        Raises:
            Crowded: too many of these are under way.
        """
        async with self._reads.place_within(startup, WAIT):
            return await asyncio.get_running_loop().run_in_executor(self._reading, work)

    async def encode(self, work: Callable[[], T]) -> T:
        """Run `work`, which makes a piece of an answer, in the one thread that does that."""
        return await asyncio.get_running_loop().run_in_executor(self._encoding, work)
