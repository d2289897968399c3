"""Computing for requests, outside of the event loop: in one thread, in turns, and with pauses.

A thread that computes in Python keeps the interpreter from the event loop for up to `gc_tuning.SWITCH_AFTER` at each of
the loop's system calls, and several threads keep it several times as long. So one thread computes at a time, a few
milliseconds for one startup and then for another; between two of these it rests, so that the loop has the interpreter
to itself for a part of the time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from gateway.fair_lock import FairLock

REST = 1.0
"""Rest after a piece of work, as a share of the time that it took, ..."""
LONGEST_REST = 0.02
"""... and its bound in seconds: time that passed may be the machine's rather than the work's."""

T = TypeVar("T")


class Computing:
    """The thread that computes. Each piece of work should take a few milliseconds."""

    def __init__(self) -> None:
        self._lock = FairLock()
        self._thread = ThreadPoolExecutor(1, "computing")

    async def run(self, owner: Hashable, work: Callable[[], T]) -> T:
        """Run a piece of work for a startup, and return what it returns."""
        await self._lock.acquire(owner)
        began = time.monotonic()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        finally:
            self._lock.release(min(LONGEST_REST, REST * (time.monotonic() - began)))
