"""Turns and budgets of replays."""

from __future__ import annotations

import asyncio
import time

import pytest

from gateway.ingest.replay_turns import BYTES, ReplayTurns
from tests.servers import WITHIN


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


async def test_a_replay_that_is_given_up_uses_nothing() -> None:
    """Whoever waits for the budget and gives up, again and again, waits no longer the next time for it."""
    turns = ReplayTurns()
    async with turns.turn("acme", BYTES // 10):
        pass
    for _ in range(50):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001), turns.turn("acme", 4 * BYTES):
                raise AssertionError
    async with asyncio.timeout(WITHIN), turns.turn("acme", 1):
        pass
