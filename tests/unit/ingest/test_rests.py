"""Rests of the sources: those whose reads bring little are read less often, the others at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.config import Settings
from gateway.feeds.fan_out import FanOut
from gateway.ingest import loop
from gateway.ingest.loop import Ingest
from gateway.ingest.rounds import MUCH, MUCH_BYTES
from gateway.metrics import Metrics
from gateway.model import Batch, Message
from gateway.state.worker_state import WorkerState
from tests.builders import batch, message, pipeline
from tests.servers import WITHIN

SMALL = [f"small-{number}" for number in range(10)]


class Bringing:
    """A source that brings one batch."""

    def __init__(self, name: str, messages: list[Message], resumed: asyncio.Queue[str]) -> None:
        self._name = name
        self._left: list[Batch] = [batch(*messages)]
        self._resumed = resumed

    def take(self, _limit: int) -> Batch | None:
        return self._left.pop() if self._left else None

    def resume(self) -> None:
        self._resumed.put_nowait(self._name)

    def ack(self, _batch: Batch) -> None:
        pass


class Ready:
    """Sessions that are ready once, and then have ended."""

    def __init__(self, sources: dict[str, Bringing]) -> None:
        self.ready = sources

    async def arrived(self) -> bool:
        return bool(self.ready)


@pytest.fixture
async def state(tmp_path: Path) -> AsyncIterator[WorkerState]:
    one = WorkerState.of(tmp_path, Settings(), {"acme": 1000})
    async with one.opened():
        yield one


@pytest.mark.parametrize("large", [[message()] * MUCH, [message(b"x" * MUCH_BYTES)], [message(topic="x" * MUCH_BYTES)]])
async def test_a_source_whose_read_brings_much_does_not_rest(
    state: WorkerState, monkeypatch: pytest.MonkeyPatch, large: list[Message]
) -> None:
    """Beside many busy sources a startup is read as fast as it sends: the last of a round is read again before those
    that brought one message each."""
    monkeypatch.setattr(loop, "ROUND", WITHIN)  # one round, however busy the machine
    resumed: asyncio.Queue[str] = asyncio.Queue()
    brought = {name: [message()] for name in SMALL} | {"large": large}
    sessions: Any = Ready({name: Bringing(name, several, resumed) for name, several in brought.items()})
    metrics = Metrics()
    await Ingest(sessions, pipeline(), state, metrics, FanOut([], metrics)).run()
    async with asyncio.timeout(WITHIN):
        order = [await resumed.get() for _ in brought]
    assert order[0] == "large"
    assert sorted(order[1:]) == SMALL
