"""Slots that decide which startups may write to a store now.

Invariants:

- A startup has one write at a time.
- A write that takes longer than `PATIENCE` moves to a slot beside the others, and the next writes of its startup begin
  there, until one is quick again: buckets that hang do not take the slots of those that answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

PATIENCE = 2.0
ASIDE = 4
"""Slots for slow writes, for each of the others."""


class WriteSlots:
    """Slots of one store: `at_once` for quick writes, and some more for slow ones."""

    def __init__(self, at_once: int) -> None:
        self._quick = asyncio.Semaphore(at_once)
        self._aside = asyncio.Semaphore(at_once * ASIDE)
        self._slow: set[str] = set()
        self._turns: dict[str, asyncio.Lock] = {}

    @asynccontextmanager
    async def slot(self, startup: str) -> AsyncIterator[None]:
        """Hold a slot for one write."""
        async with self._turns.setdefault(startup, asyncio.Lock()):
            slot = _Slot(self._aside if startup in self._slow else self._quick)
            await slot.semaphore.acquire()
            began = time.monotonic()
            timer = asyncio.get_running_loop().call_later(PATIENCE, self._is_late, startup, slot)
            try:
                yield
            finally:
                timer.cancel()
                if slot.moving is not None:
                    slot.moving.cancel()
                    await asyncio.wait((slot.moving,))
                slot.semaphore.release()
                if time.monotonic() - began < PATIENCE:
                    self._slow.discard(startup)

    def _is_late(self, startup: str, slot: _Slot) -> None:
        self._slow.add(startup)
        if slot.semaphore is self._quick:
            slot.moving = asyncio.ensure_future(self._move(slot))

    async def _move(self, slot: _Slot) -> None:
        await self._aside.acquire()
        slot.semaphore = self._aside
        self._quick.release()


class _Slot:
    def __init__(self, semaphore: asyncio.Semaphore) -> None:
        self.semaphore = semaphore
        self.moving: asyncio.Future[None] | None = None
