"""Lanes of the drain: what leaves the journal, when, and what it is counted as."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.config import Settings
from gateway.errors import StoreRefused, StoreUnavailable
from gateway.feeds.fan_out import FanOut
from gateway.metrics import Metrics
from gateway.model import Counts
from gateway.state import dead_letters, ledger
from gateway.state.journal import Block, Journal
from gateway.state.worker_state import WorkerState
from gateway.stores.drain import Drain
from tests.builders import on_disk
from tests.servers import eventually

LINES = [f"climate,device=th-1 value={number} {number}" for number in range(1, 9)]
BAD = LINES[4].encode()


class Store:
    """A store in memory; `answer` may raise before a batch is kept."""

    def __init__(self, answer: Callable[[Sequence[bytes]], None]) -> None:
        self.answer = answer
        self.kept: dict[str, list[bytes]] = {}

    def bytes_at_once(self, _startup: str) -> int:
        return 1 << 20

    async def write(self, startup: str, lines: Sequence[bytes]) -> None:
        self.answer(lines)
        self.kept.setdefault(startup, []).extend(lines)


@pytest.fixture
async def state(tmp_path: Path) -> AsyncIterator[WorkerState]:
    one = WorkerState.of(tmp_path, Settings(), {"acme": 1000})
    async with one.opened():
        yield one


async def journaled(state: WorkerState, **lines: Sequence[str]) -> None:
    blocks = {startup: Block.of(several) for startup, several in lines.items()}
    await state.database.write(lambda connection: Journal.append(connection, blocks))
    state.journal.appended(blocks)


@asynccontextmanager
async def draining(state: WorkerState, store: Store) -> AsyncIterator[None]:
    """Run the drain until the block ends, however it ends."""
    settings = Settings.model_validate({"drain": {"interval": "0s", "max_backoff": "0.01s"}})
    anything: Any = store
    drain = Drain(state, anything, settings.drain, FanOut([], Metrics()))
    task = asyncio.create_task(drain.run(["acme", "birch"]))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def balance(state: WorkerState, startup: str = "acme") -> Counts:
    return on_disk(state.database.path, ledger.balance).get(startup, Counts())


def takes_all(_lines: Sequence[bytes]) -> None:
    pass


async def test_readings_leave_the_journal_when_they_are_stored(state: WorkerState) -> None:
    """Every reading is in the store, and counted as stored and no longer as waiting."""
    store = Store(takes_all)
    await journaled(state, acme=LINES)
    async with draining(state, store):
        await eventually(lambda: balance(state).stored)
    assert store.kept == {"acme": [line.encode() for line in LINES]}
    assert balance(state) == Counts(received=8, accepted=8, stored=8)
    assert state.journal.readings == 0


async def test_readings_stay_in_the_journal_until_they_are_stored(state: WorkerState) -> None:
    """While the store is away they wait on disk, and once it is back each is stored."""
    is_away = True
    asked: list[Counts] = []

    def answer(_lines: Sequence[bytes]) -> None:
        asked.append(balance(state))
        if is_away:
            raise StoreUnavailable("it is away")

    store = Store(answer)
    await journaled(state, acme=LINES)
    async with draining(state, store):
        await eventually(lambda: len(asked) > 2, says="it is tried again")
        is_away = False
        await eventually(lambda: balance(state).stored)
    assert all(counts.journaled == 8 for counts in asked)
    assert store.kept == {"acme": [line.encode() for line in LINES]}


async def test_only_the_refused_reading_becomes_a_dead_letter(state: WorkerState) -> None:
    """Of a batch with a bad point the others are stored; the bad one is kept with its bytes, and counted."""

    def answer(lines: Sequence[bytes]) -> None:
        if BAD in lines:
            raise StoreRefused("type conflict")

    store = Store(answer)
    await journaled(state, acme=LINES)
    async with draining(state, store):
        await eventually(lambda: balance(state).stored)
    assert sorted(store.kept["acme"]) == [line.encode() for line in LINES if line.encode() != BAD]
    assert balance(state) == Counts(received=8, accepted=8, stored=7, refused=1)
    kept = on_disk(state.database.path, dead_letters.page)
    assert [one.rejection.payload for one in kept.letters] == [BAD]


async def test_each_startup_gets_its_own_readings(state: WorkerState) -> None:
    """Readings that were journaled together are stored with the startup that they are of."""
    store = Store(takes_all)
    await journaled(state, acme=LINES[:3], birch=LINES[3:])
    async with draining(state, store):
        await eventually(lambda: balance(state).stored and balance(state, "birch").stored)
    assert store.kept == {
        "acme": [line.encode() for line in LINES[:3]],
        "birch": [line.encode() for line in LINES[3:]],
    }


async def test_a_startup_whose_store_is_away_keeps_its_readings(state: WorkerState) -> None:
    """Readings of another startup, journaled later, are stored and leave; its own stay."""

    def answer(lines: Sequence[bytes]) -> None:
        if lines[0] == LINES[0].encode():
            raise StoreUnavailable("the store of acme is away")

    await journaled(state, acme=LINES[:3])
    await journaled(state, birch=LINES[3:])
    async with draining(state, Store(answer)):
        await eventually(lambda: balance(state, "birch").stored)
    assert balance(state) == Counts(received=3, accepted=3, journaled=3)
    assert balance(state).balanced


async def test_the_ledger_balances_after_each_transaction(state: WorkerState, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the gateway has committed when it is killed, the counts are those of the records."""
    write = state.database.write
    seen: list[Counts] = []

    async def written(work: Any) -> Any:
        result = await write(work)
        seen.append(balance(state))
        return result

    monkeypatch.setattr(type(state.database), "write", lambda _self, work: written(work))
    store = Store(takes_all)
    await journaled(state, acme=LINES)
    async with draining(state, store):
        await eventually(lambda: balance(state).stored)
    assert len(seen) > 1
    assert all(counts.balanced for counts in seen)
