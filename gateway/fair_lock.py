"""A lock of the event loop that its owners hold in turns, so that one with many waiting tasks delays nobody else more
than one with a single task.

Invariants:

- Of those that wait, the owner that has been served least recently is next.
- A lock that is given back is free in the next turn of the event loop at the earliest: what its holders do one after
  the other never happens in one turn, however many wait, and timers and sockets come between.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager


class FairLock:
    """`async with lock.held(owner)`, or `acquire` and then `release`."""

    def __init__(self) -> None:
        self._is_held = False
        self._waiting: dict[Hashable, deque[asyncio.Future[None]]] = {}

    @property
    def is_held(self) -> bool:
        """Whether somebody holds it; one that was released and not yet passed on counts as held."""
        return self._is_held

    @asynccontextmanager
    async def held(self, owner: Hashable) -> AsyncIterator[None]:
        """Hold the lock inside the block."""
        await self.acquire(owner)
        try:
            yield
        finally:
            self.release()

    async def acquire(self, owner: Hashable) -> None:
        """Wait for the lock."""
        if not self._is_held:
            self._is_held = True
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owner, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it was this one's turn already
                self._pass_on()
            raise

    def release(self, after: float = 0.0) -> None:
        """Give the lock back, in the next turn of the event loop, or after some seconds."""
        loop = asyncio.get_running_loop()
        if after > 0:
            loop.call_later(after, self._pass_on)
        else:
            loop.call_soon(self._pass_on)

    def _pass_on(self) -> None:
        while self._waiting:
            owner = next(iter(self._waiting))
            several = self._waiting.pop(owner)
            while several and several[0].done():  # given up
                several.popleft()
            if not several:
                continue
            several.popleft().set_result(None)
            if several:
                self._waiting[owner] = several  # behind the others
            return
        self._is_held = False
