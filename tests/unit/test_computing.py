"""Computing for requests."""

from __future__ import annotations

import asyncio
import threading

import pytest

from gateway.computing import Computing
from tests.servers import eventually


async def test_one_piece_of_work_at_a_time() -> None:
    """However many ask, one thread computes, and those with little wait for one piece of each of the others."""
    computing = Computing()
    order: list[str] = []
    running = threading.Semaphore(1)

    def work(owner: str) -> str:
        assert running.acquire(blocking=False)
        order.append(owner)
        running.release()
        return owner

    async with asyncio.TaskGroup() as tasks:
        for _ in range(20):
            tasks.create_task(computing.run("acme", lambda: work("acme")))
        asked = tasks.create_task(computing.run("birch", lambda: work("birch")))
    assert asked.result() == "birch"
    assert order.index("birch") <= 2


async def test_a_failure_is_its_own() -> None:
    """Work that raises does so where it was asked for, and the next is done."""
    computing = Computing()
    with pytest.raises(ZeroDivisionError):
        await computing.run("acme", lambda: 1 // 0)
    assert await computing.run("acme", lambda: 1) == 1


async def test_nothing_is_kept_of_those_that_are_done() -> None:
    """However many startups have computed, one that neither computes, waits nor rests is forgotten."""
    computing = Computing()
    await asyncio.gather(*(computing.run(f"s{number % 50}", lambda: 1) for number in range(100)))
    assert computing.owners
    await eventually(lambda: not computing.owners)
    assert await computing.run("s1", lambda: 2) == 2
