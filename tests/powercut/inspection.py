"""What is on a disk after a cut: the gateway's state is opened there and drained, and compared with what happened."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

from gateway.config.models import Settings
from gateway.model import Counts, Rejection
from gateway.state.dead_letters import NEWEST
from gateway.state.reader import StateReader
from gateway.state.worker_state import WorkerState
from gateway.state.workers import home
from gateway.stores.contract import Query
from gateway.stores.drain import Drain
from gateway.stores.sqlite import SqliteStore
from tests.powercut.load import STARTUPS, is_bad, value

WITHIN = 60.0
Numbers = Mapping[str, Sequence[int]]
"""Numbers of messages by startup."""


@dataclass
class Findings:
    """What was wrong after a cut; all of it is empty or 0 where nothing was.

    `lost` are messages that were acknowledged and are neither stored nor dead letters. `invented` were never delivered,
    or have another value. `claimed` is how many readings the ledger counts as stored that the store does not have.
    """

    acknowledged: int = 0
    found: int = 0
    lost: list[str] = field(default_factory=list)
    invented: list[str] = field(default_factory=list)
    claimed: int = 0
    unbalanced: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    crash: str = ""

    @property
    def good(self) -> bool:
        return not (self.lost or self.invented or self.claimed or self.unbalanced or self.damaged or self.crash)


class _Nobody:
    """A listener that does not listen."""

    def accepted(self, readings: object, /) -> None: ...

    def rejected(self, rejections: Sequence[Rejection], /) -> None: ...


async def inspect(state_dir: Path, delivered: Numbers, acknowledged: Numbers, workers: int) -> Findings:
    """Start on what a cut has left, as the gateway does, and store what is in the journal."""
    findings = Findings(sum(len(set(numbers)) for numbers in acknowledged.values()))
    try:
        async with asyncio.timeout(WITHIN):
            await _inspect(findings, state_dir, delivered, acknowledged, workers)
    except Exception as error:  # whatever it is, the gateway would not start
        findings.crash = f"{type(error).__name__}: {error}"
    return findings


async def _inspect(
    findings: Findings, state_dir: Path, delivered: Numbers, acknowledged: Numbers, workers: int
) -> None:
    store = SqliteStore(state_dir / "store")
    async with AsyncExitStack() as stack:
        states = [WorkerState.of(home(state_dir, number), Settings(), {}) for number in range(workers)]
        for state in states:
            await stack.enter_async_context(state.opened())
        await store.open()
        stack.push_async_callback(store.close)
        counts = await asyncio.to_thread(StateReader(state_dir).balance)
        for startup in STARTUPS:
            _compare_counts(findings, startup, counts.get(startup, Counts()), acknowledged, at="the start")
        findings.claimed = await _claimed(store, counts, delivered)
        for state in states:
            await _drain(state, store)
        counts = await asyncio.to_thread(StateReader(state_dir).balance)
        for startup in STARTUPS:
            _compare_counts(findings, startup, counts.get(startup, Counts()), acknowledged, at="the end")
            stored = await _stored(store, startup)
            dead = await asyncio.to_thread(_dead, state_dir, startup)
            findings.found += _compare(findings, startup, stored, dead, delivered, acknowledged)
    findings.damaged.extend(await asyncio.to_thread(_damaged, state_dir))


async def _drain(state: WorkerState, store: SqliteStore) -> None:
    drain = Drain(state, store, Settings().drain, _Nobody())
    running = asyncio.create_task(drain.run(STARTUPS))
    await asyncio.sleep(0)  # it opens its lanes
    drain.stop()
    await running


def _compare_counts(findings: Findings, startup: str, counts: Counts, acknowledged: Numbers, at: str) -> None:
    """Compare a ledger with itself, and with what was acknowledged."""
    if not counts.balanced:
        findings.unbalanced.append(f"{startup} at {at}: {counts}")
    if counts.received < len(set(acknowledged.get(startup, ()))):
        findings.unbalanced.append(f"{startup} at {at}: received {counts.received}, fewer than acknowledged")


def _compare(
    findings: Findings,
    startup: str,
    stored: Mapping[int, float],
    dead: Iterable[int],
    delivered: Numbers,
    acknowledged: Numbers,
) -> int:
    """Compare what is there with what happened; return how many messages that were acknowledged are there."""
    known, expected, there = set(delivered.get(startup, ())), set(acknowledged.get(startup, ())), set(dead)
    findings.lost.extend(f"{startup} {number}" for number in sorted(expected - stored.keys() - there))
    wrong = {number for number, held in stored.items() if held != value(number) or is_bad(number)}
    wrong |= {number for number in there if not is_bad(number)} | ((stored.keys() | there) - known)
    findings.invented.extend(f"{startup} {number}" for number in sorted(wrong))
    return len(expected & (stored.keys() | there))


async def _claimed(store: SqliteStore, counts: Mapping[str, Counts], delivered: Numbers) -> int:
    """Return how many readings have left the journal as stored that are not in the store. A message that was delivered
    twice counts twice, and is one reading in the store."""
    claimed = 0
    for startup in STARTUPS:
        times = Counter(delivered.get(startup, ()))
        there = sum(times[number] for number in await _stored(store, startup))
        claimed += max(0, counts.get(startup, Counts()).stored - there)
    return claimed


async def _stored(store: SqliteStore, startup: str) -> dict[int, float]:
    """Return the values in the store by their number."""
    if "climate" not in await store.measurements(startup):
        return {}
    everything = Query("climate", 0, 1 << 62)
    rows = [row async for chunk in store.history(startup, everything) for row in chunk]
    return {int(row.fields["seq"]): float(row.fields["temperature"]) for row in rows}


def _dead(state_dir: Path, startup: str) -> list[int]:
    """Return the numbers of the dead letters."""
    reader, place, numbers = StateReader(state_dir), NEWEST, list[int]()
    while (page := reader.dead_letters(startup, before=place, limit=1000)).letters:
        numbers += [json.loads(one.rejection.payload)["seq"] for one in page.letters]
        place = page.letters[-1].place
    return numbers


def _damaged(state_dir: Path) -> list[str]:
    """Return what SQLite says of each database that is not whole."""
    found = []
    for path in sorted(state_dir.rglob("*.db")):
        with closing(sqlite3.connect(path)) as connection:
            answers = [answer for (answer,) in connection.execute("PRAGMA integrity_check")]
        if answers != ["ok"]:
            found.append(f"{path.relative_to(state_dir)}: {answers[0]}")
    return found
