"""Pulse of a worker: when it counts as hanging."""

from __future__ import annotations

import asyncio

import pytest

from gateway.runtime import pulse
from gateway.runtime.pulse import Pulse
from tests.servers import WITHIN


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The ticks of the supervisor, which take no time."""
    seen: list[float] = []
    sleep = asyncio.sleep

    async def tick(seconds: float) -> None:
        seen.append(seconds)
        await sleep(0)

    monkeypatch.setattr("gateway.runtime.pulse.asyncio.sleep", tick)
    return seen


async def test_a_worker_without_a_sign_of_life_hangs(ticks: list[float]) -> None:
    """After its last sign it has `HUNG_AFTER` ticks; before the first, which follows the opening of its state, more."""
    one = Pulse()
    async with asyncio.timeout(WITHIN):
        await one.lost()
    assert len(ticks) == pulse.BEGINS_WITHIN
    one.beat()
    ticks.clear()
    async with asyncio.timeout(WITHIN):
        await one.lost()
    assert len(ticks) == pulse.HUNG_AFTER
