"""Turns of replays: each startup has a budget of its own for them, and between two of any the messages have their turn.

A replay costs the event loop what a message costs, and the disk a commit and up to twice its payload. Nobody waits for
it as a device waits for an acknowledgement.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.errors import ReplayImpossible
from gateway.fair_lock import FairLock
from gateway.state.dead_letters import DeadLetter

SECONDS_EACH = 0.005
"""Budget of a startup: this time for each replay, ..."""
BYTES = 1 << 20
"""... and a second for this number of bytes of payloads."""

COSTS_MOST = 5.0
"""Seconds of the budget that one replay uses up, at most: less than anybody waits for one."""


class ReplayTurns:
    """`async with turns.turn(startup, size)`: evaluate one dead letter inside, without waiting for anything else."""

    def __init__(self) -> None:
        self._lock = FairLock()
        self._next: dict[str, float] = {}

    @asynccontextmanager
    async def turn(self, startup: str, size: int) -> AsyncIterator[None]:
        """Wait for the budget of a startup, then for the turn."""
        now = time.monotonic()
        due = max(now, self._next.get(startup, now))
        cost = min(COSTS_MOST, SECONDS_EACH + size / BYTES)
        self._next[startup] = due + cost
        try:
            await asyncio.sleep(due - now)
            await self._lock.acquire(startup)
        except asyncio.CancelledError:  # nobody waits for it any more: it has used nothing
            self._next[startup] -= cost
            raise
        began = time.monotonic()
        try:
            yield
        finally:
            self._lock.release(time.monotonic() - began)


def line_of(dead_letter: DeadLetter) -> str:
    """Return the line of a refused reading.

    Raises:
        ReplayImpossible: it was damaged on the disk.
    """
    try:
        return dead_letter.rejection.payload.decode()
    except UnicodeDecodeError as error:
        raise ReplayImpossible(f"dead letter {dead_letter.id} cannot be replayed: it is damaged: {error}") from None
