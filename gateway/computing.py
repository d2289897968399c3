"""Computing for requests, outside of the event loop: in one thread, in turns, and with pauses.

A thread that computes in Python keeps the interpreter from the event loop for up to `gc_tuning.SWITCH_AFTER` at each of
the loop's system calls, and several threads keep it several times as long. So one thread computes at a time, a few
milliseconds for one startup and then for another. After its turn a startup rests for as long as that took, and all
others for a part of it, so that the loop has the interpreter to itself for a part of the time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from gateway.fair_lock import FairLock

REST = 1.0
"""Rest of a startup after a piece of work of its own, as a share of the time that it took, ..."""
REST_OF_ALL = 0.25
"""... that of all others, ..."""
LONGEST_REST = 0.02
"""... and the bound of both in seconds: time that passed may be the machine's rather than the work's."""

T = TypeVar("T")


class Computing:
    """Thread that computes. Each piece of work should take a few milliseconds."""

    def __init__(self) -> None:
        self._lock = FairLock()
        self._own: dict[Hashable, FairLock] = {}
        self._thread = ThreadPoolExecutor(1, "computing")

    @property
    def owners(self) -> int:
        """Number of owners that compute, wait or rest."""
        return len(self._own)

    async def run(self, owner: Hashable, work: Callable[[], T]) -> T:
        """Run a piece of work for a startup, and return what it returns."""
        own = self._own.setdefault(owner, FairLock())
        await own.acquire(owner)
        took = 0.0
        try:
            await self._lock.acquire(owner)
            began = time.monotonic()
            try:
                return await asyncio.get_running_loop().run_in_executor(self._thread, work)
            finally:
                took = time.monotonic() - began
                self._lock.release(min(LONGEST_REST, REST_OF_ALL * took))
        finally:
            rest = min(LONGEST_REST, REST * took)
            own.release(rest)
            asyncio.get_running_loop().call_later(rest, self._forget, owner)

    def _forget(self, owner: Hashable) -> None:
        """Forget an owner that neither computes, waits nor rests: so removed startups leave nothing behind."""
        own = self._own.get(owner)
        if own is not None and not own.is_held:
            del self._own[owner]
