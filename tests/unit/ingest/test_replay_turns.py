"""Turns and budgets of replays."""

from __future__ import annotations

import asyncio
import time

from gateway.ingest.replay_turns import BYTES, ReplayTurns


async def test_each_startup_has_a_budget_of_its_own() -> None:
    """One that has replayed a large payload waits; another one does not wait for it."""
    turns = ReplayTurns()
    done: list[str] = []

    async def replay(startup: str, size: int) -> None:
        async with turns.turn(startup, size):
            done.append(startup)

    await replay("acme", BYTES // 5)
    again = asyncio.create_task(replay("acme", 1))
    await asyncio.sleep(0)
    await replay("birch", 1)
    assert done == ["acme", "birch"]
    await again
    assert done == ["acme", "birch", "acme"]


async def test_a_budget_is_bytes_in_time() -> None:
    """Many replays of one startup take at least as long as their bytes, however many ask at once."""
    turns = ReplayTurns()

    async def replay() -> None:
        async with turns.turn("acme", BYTES // 100):
            pass

    began = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(11):
            tasks.create_task(replay())
    assert time.monotonic() - began >= 10 / 100
