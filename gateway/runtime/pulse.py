"""Signs of life of a worker.

Seconds are counted one by one, so that only those count in which the supervisor itself ran: neither a machine that was
suspended nor a supervisor that was stopped makes a worker look dead.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from gateway.logs import get_logger

TICK = 1.0
HUNG_AFTER = 30
"""Ticks without a sign of life after which a worker hangs; it gives one a second."""
BEGINS_WITHIN = 300
"""Ticks in which it has to give the first: before that it opens its state, which may be large."""

log = get_logger(__name__)


class Pulse:
    """`beat` at each sign of life; `lost` returns when there has been none for too long."""

    def __init__(self) -> None:
        self._left = BEGINS_WITHIN

    def beat(self) -> None:
        self._left = HUNG_AFTER

    async def lost(self) -> None:
        """Wait until the worker hangs."""
        while self._left > 0:
            await asyncio.sleep(TICK)
            self._left -= 1


async def kill_if_hung(worker: int, process: asyncio.subprocess.Process, pulse: Pulse) -> None:
    """Kill a worker that hangs. What it has not acknowledged, the broker delivers to the one that takes its place."""
    await pulse.lost()
    log.error("worker hangs", worker=worker, pid=process.pid, next="it is killed, and another takes its place")
    with suppress(ProcessLookupError):
        process.kill()
