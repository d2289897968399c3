"""Sampling: something looked at repeatedly while something else runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

T = TypeVar("T")


@asynccontextmanager
async def sampled(look: Callable[[], T], every: float) -> AsyncIterator[list[T]]:
    """Collect what `look` returns, every so many seconds until the block ends. It runs in a thread."""
    samples: list[T] = []

    async def sample() -> None:
        while True:
            await asyncio.sleep(every)
            samples.append(await asyncio.to_thread(look))

    task = asyncio.create_task(sample())
    try:
        yield samples
    finally:
        task.cancel()
        await asyncio.wait((task,))
    if not task.cancelled() and (error := task.exception()):
        raise error
