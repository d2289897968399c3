"""The loop between the sessions and the journal: what is acknowledged, and when."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gateway.config import Settings
from gateway.errors import StateUnavailable
from gateway.feeds.fan_out import FanOut
from gateway.ingest.loop import Ingest
from gateway.metrics import Metrics
from gateway.model import Batch, Counts, Message
from gateway.state import dead_letters, ledger
from gateway.state.worker_state import WorkerState
from tests.builders import batch, message, on_disk, pipeline, startup
from tests.servers import eventually, keep_waiting

INVALID = message(b"{")
FEW = {"messages": "2/s", "burst": 100, "per_device": "0.02/s"}


@dataclass
class Bringing:
    """A source that brings one batch; `acknowledged` is what was on disk when that was acknowledged."""

    messages: tuple[Message, ...]
    database: Path
    acknowledged: list[Counts] = field(default_factory=list)
    is_taken: bool = False

    def take(self, _limit: int) -> Batch | None:
        if self.is_taken:
            return None
        self.is_taken = True
        return batch(*self.messages)

    def resume(self) -> None:
        pass

    def ack(self, _batch: Batch) -> None:
        self.acknowledged.append(on_disk(self.database, ledger.balance).get("acme", Counts()))


@dataclass
class Sessions:
    """Sessions that are ready once, and then have ended."""

    ready: dict[str, Bringing]
    held: list[str] = field(default_factory=list)

    async def arrived(self) -> bool:
        return bool(self.ready)

    def hold(self, name: str, _seconds: float) -> None:
        self.held.append(name)
        del self.ready[name]


@pytest.fixture
async def state(tmp_path: Path) -> AsyncIterator[WorkerState]:
    settings = Settings.model_validate({"journal": {"max_readings": 4}})
    one = WorkerState.of(tmp_path, settings, {"acme": 1000})
    async with one.opened():
        yield one


def ingest(state: WorkerState, *messages: Message, quota: Any = None) -> tuple[Ingest, Bringing, Sessions]:
    source = Bringing(messages, state.database.path)
    sessions = Sessions({"acme": source})
    metrics = Metrics()
    anything: Any = sessions
    return Ingest(anything, pipeline(startup(quota=quota or {})), state, metrics, FanOut([], metrics)), source, sessions


async def test_a_batch_is_acknowledged_when_it_is_on_disk(state: WorkerState) -> None:
    """At the moment of the acknowledgement the readings, the rejections and their counts are in the file."""
    loop, source, _ = ingest(state, message(), INVALID, message())
    await loop.run()
    assert source.acknowledged == [Counts(received=3, accepted=2, rejected=1, journaled=2)]


async def test_a_rejected_message_is_kept_before_it_is_acknowledged(state: WorkerState) -> None:
    """A dead letter has the bytes of the message."""
    loop, source, _ = ingest(state, INVALID)
    await loop.run()
    assert len(source.acknowledged) == 1
    kept = on_disk(state.database.path, dead_letters.page)
    assert [one.rejection.payload for one in kept.letters] == [INVALID.payload]


async def test_nothing_is_acknowledged_while_the_disk_cannot_be_written(
    state: WorkerState, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried again until it succeeds, and acknowledged then."""
    write = state.database.write
    fails = asyncio.Event()
    works = asyncio.Event()

    async def written(work: Any) -> Any:
        if not works.is_set():
            fails.set()
            raise StateUnavailable("the disk is full")
        return await write(work)

    monkeypatch.setattr(type(state.database), "write", lambda _self, work, **_options: written(work))
    loop, source, _ = ingest(state, message())
    running = asyncio.create_task(loop.run())
    await asyncio.wait_for(fails.wait(), 10)
    await keep_waiting(running)
    assert not source.acknowledged
    works.set()
    await running
    assert source.acknowledged == [Counts(received=1, accepted=1, journaled=1)]


async def test_nothing_is_taken_while_the_journal_is_full(state: WorkerState) -> None:
    """The messages stay at the broker until there is room."""
    first, _, _ = ingest(state, *[message()] * 4)
    await first.run()
    loop, source, _ = ingest(state, message())
    running = asyncio.create_task(loop.run())
    await keep_waiting(running)
    assert not source.is_taken
    await state.journal.sort()
    entries = await state.journal.take("acme", 10)
    await state.journal.removed("acme", entries)
    await running
    assert source.acknowledged


async def test_a_startup_that_has_filled_its_share_is_held_back(state: WorkerState) -> None:
    """Its messages wait at the broker, whoever else is read."""
    first, _, _ = ingest(state, *[message()] * 3)
    await first.run()
    loop, source, sessions = ingest(state, message())
    await loop.run()
    assert sessions.held == ["acme"]
    assert not source.is_taken


async def test_the_counts_change_with_the_records(state: WorkerState) -> None:
    """After each transaction that a round makes, the ledger balances and the dead letters are those it counts."""
    seen: list[tuple[Counts, int]] = []

    def look(connection: sqlite3.Connection) -> None:
        counts = ledger.balance(connection).get("acme", Counts())
        kept = sum(one.kept for one in dead_letters.totals(connection).values())
        seen.append((counts, kept))

    loop, source, _ = ingest(state, message(), INVALID)
    watcher = asyncio.create_task(_watch(state, look))
    await loop.run()
    await eventually(lambda: source.acknowledged)
    watcher.cancel()
    await asyncio.gather(watcher, return_exceptions=True)
    on_disk(state.database.path, look)
    assert all(counts.balanced and counts.rejected == kept for counts, kept in seen)


async def _watch(state: WorkerState, look: Any) -> None:
    while True:
        await asyncio.to_thread(on_disk, state.database.path, look)


async def test_the_last_sample_is_kept_at_the_end(state: WorkerState) -> None:
    """Of messages over quota the last one becomes a dead letter when the gateway stops, with the number of all."""
    loop, _, _ = ingest(state, message(), *[message(f'{{"value": {n}}}') for n in range(5)], quota=FEW)
    await loop.run()
    kept = on_disk(state.database.path, dead_letters.page)
    assert kept.letters[0].rejection.payload == b'{"value": 4}'
    counts = on_disk(state.database.path, ledger.balance)["acme"]
    assert (counts.received, counts.balanced) == (6, True)
