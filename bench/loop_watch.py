"""How long the event loop did not turn: the longest time between two turns while a block runs."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Self

EVERY = 0.001


class LoopWatch:
    """`async with LoopWatch() as watch: ...`, then `watch.longest` is in seconds."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def __aenter__(self) -> Self:
        self._watching = asyncio.create_task(self._watch(), name="loop-watch")
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._watching.cancel()

    async def _watch(self) -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(EVERY)
            self.longest = max(self.longest, time.perf_counter() - began - EVERY)
