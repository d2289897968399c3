"""The state on disk against a simple model: random batches, drains, replays, restarts and crashes.

What a crash leaves is a copy of the database file and its write-ahead log, taken while the gateway runs: the same
that `kill -9` leaves. tests/unit/test_kill.py does it with a real process.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.config.models import DeadLetterSettings, JournalSettings
from gateway.ingest.outcome import Outcome
from gateway.model import Counts, Rejection
from gateway.state import dead_letters, ledger, refused_letters
from gateway.state.database import FILE_NAME, Database
from gateway.state.dead_letters import Totals
from gateway.state.journal import SEPARATOR, Block, Entry, Journal
from tests.builders import rejection
from tests.servers import WITHIN

T = TypeVar("T")

BOUNDS = DeadLetterSettings(max_count=5)
STARTUPS = st.sampled_from(["acme", "beta", "gamma"])
LINES = st.lists(
    st.binary(min_size=1, max_size=12).map(lambda line: line.replace(b"\0", b"\n")), min_size=1, max_size=4
)
BATCHES = st.tuples(
    st.dictionaries(STARTUPS, LINES, max_size=3),
    st.lists(st.tuples(STARTUPS, st.binary(max_size=8), st.integers(0, 3)), max_size=3),
).filter(any)
Arrived = tuple[Outcome, Mapping[str, Block]]
Batch = tuple[Mapping[str, list[bytes]], list[tuple[str, bytes, int]]]


@dataclass(eq=False)
class Letter:
    """The model of a dead letter."""

    payload: bytes
    is_refused: bool = False


@dataclass
class Lane:
    """The model of one startup: unsorted batches, entries in order, counts, and dead letters, the oldest first."""

    intake: list[bytes] = field(default_factory=list)
    entries: list[list[bytes]] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)
    dead_letters: list[Letter] = field(default_factory=list)
    dropped: int = 0

    def prune(self) -> None:
        """Drop the oldest rejections beyond the bound; what the store refused stays."""
        rejected = [letter for letter in self.dead_letters if not letter.is_refused]
        for letter in rejected[: max(0, len(rejected) - BOUNDS.max_count)]:
            self.dead_letters.remove(letter)
            self.dropped += 1

    @property
    def balance(self) -> Counts:
        return self.counts + Counts(journaled=len(self.waiting))

    @property
    def waiting(self) -> list[bytes]:
        return [line for entry in self.entries for line in entry] + self.intake


def outcome_of(batch: Batch) -> Arrived:
    """Return the batch as the pipeline would."""
    lines, rejected = batch
    rejections = [rejection(payload, startup, range(records)) for startup, payload, records in rejected]
    return Outcome(rejections=rejections), blocks_of(lines)


def blocks_of(lines: Mapping[str, list[bytes]]) -> dict[str, Block]:
    return {startup: Block(len(several), SEPARATOR.join(several)) for startup, several in lines.items()}


def write(arrived: Arrived, connection: sqlite3.Connection) -> None:
    """Write what ingest writes in its transaction."""
    outcome, blocks = arrived
    Journal.append(connection, blocks)
    dead_letters.insert(connection, outcome.rejections, BOUNDS)
    ledger.add(connection, outcome.rejected())


def settle(startup: str, entries: list[Entry], refused: list[Rejection], connection: sqlite3.Connection) -> None:
    """Write what the drain writes in its transaction."""
    readings = sum(entry.readings for entry in entries)
    Journal.remove(connection, entries)
    if refused:
        refused_letters.insert(connection, startup, refused, BOUNDS)
    ledger.add(connection, {startup: Counts(stored=readings - len(refused), refused=len(refused))})


class StateOnDisk(RuleBasedStateMachine):
    """One gateway's state; every rule does to the model what it does to the disk."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.root = Path(tempfile.mkdtemp(prefix="journal-model-"))
        self.lives = 0
        self.lanes: dict[str, Lane] = {}

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(asyncio.wait_for(work, WITHIN))

    def lane(self, startup: str) -> Lane:
        return self.lanes.setdefault(startup, Lane())

    @initialize()
    def start(self) -> None:
        self.path = self.root / FILE_NAME
        self.open()

    def open(self) -> None:
        self.database = Database(self.path)
        self.journal = Journal(self.database, JournalSettings())
        self.do(self.database.open())
        self.do(self.journal.open())
        self.sorted()

    def crash(self) -> None:
        """Go on with what is on disk now, and let the old life end without being seen."""
        self.lives += 1
        directory = self.root / str(self.lives)
        directory.mkdir()
        for file in (self.path, self.path.with_name(f"{FILE_NAME}-wal")):
            if file.exists():
                shutil.copy(file, directory)
        self.path = directory / FILE_NAME

    def bring_to_life(self) -> None:
        old = self.database
        self.open()
        self.do(old.close())

    # ------------------------------------------------------------------ what the gateway does

    def count(self, batch: Batch) -> None:
        """Do to the model what a committed batch does."""
        lines, rejected = batch
        for startup, several in lines.items():
            lane = self.lane(startup)
            lane.intake += several
            lane.counts += Counts(received=len(several), accepted=len(several))
        for startup, payload, records in rejected:
            lane = self.lane(startup)
            lane.counts += Counts(received=records or 1, rejected=records or 1)
            lane.dead_letters.append(Letter(payload))
        for lane in self.lanes.values():
            lane.prune()

    @rule(batch=BATCHES)
    def ingest(self, batch: Batch) -> None:
        """A batch is committed, and counted in memory."""
        arrived = outcome_of(batch)
        self.do(self.database.write(partial(write, arrived)))
        self.journal.appended(arrived[1])
        self.count(batch)

    @rule()
    def sort(self) -> None:
        """The intake goes into the lanes: one entry of each startup that has something in it."""
        self.do(self.journal.sort())
        self.sorted()

    def sorted(self) -> None:
        """Do to the model what a sorting does."""
        for lane in self.lanes.values():
            if lane.intake:
                lane.entries.append(lane.intake)
                lane.intake = []

    @rule(batches=st.lists(BATCHES, min_size=2, max_size=4), failing=st.integers(0, 3))
    def ingest_as_a_group(self, batches: list[Batch], failing: int) -> None:
        """Batches are committed together; one of them fails alone, after it has written."""

        def fail(arrived: Arrived, connection: sqlite3.Connection) -> None:
            write(arrived, connection)
            raise LookupError

        outcomes = [outcome_of(batch) for batch in batches]
        works: list[Callable[[sqlite3.Connection], None]] = [partial(write, outcome) for outcome in outcomes]
        works.insert(failing, partial(fail, outcomes[0]))

        async def together() -> list[BaseException | None]:
            return await asyncio.gather(*map(self.database.write, works), return_exceptions=True)

        failures = [one for one in self.do(together()) if one is not None]
        assert [type(one) for one in failures] == [LookupError]
        for batch, outcome in zip(batches, outcomes, strict=True):
            self.journal.appended(outcome[1])
            self.count(batch)

    @rule(startup=STARTUPS, limit=st.integers(1, 12), refuse=st.lists(st.integers(0, 8), max_size=3, unique=True))
    def drain(self, startup: str, limit: int, refuse: list[int]) -> None:
        """The oldest entries are taken, and removed as stored, or as refused by the store."""
        lane = self.lane(startup)
        entries = self.do(self.journal.take(startup, limit))
        lines = [line for entry in entries for line in entry.lines]
        assert [entry.lines for entry in entries] == lane.entries[: len(entries)]
        assert len(lines) >= min(limit, len(lane.waiting) - len(lane.intake))
        assert len(lines) - (entries[-1].readings if entries else 0) < limit
        refused = [lines[i] for i in refuse if i < len(lines)]
        rejections = [rejection(line, startup, topic="") for line in refused]
        self.do(self.database.write(partial(settle, startup, entries, rejections)))
        self.do(self.journal.removed(startup, entries))
        del lane.entries[: len(entries)]
        lane.counts += Counts(stored=len(lines) - len(refused), refused=len(refused))
        lane.dead_letters += [Letter(line, is_refused=True) for line in refused]
        lane.prune()

    @precondition(lambda self: any(lane.dead_letters for lane in self.lanes.values()))
    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        """A dead letter becomes a reading: it is gone in the transaction that journals it."""
        startup = data.draw(st.sampled_from(sorted(slug for slug, lane in self.lanes.items() if lane.dead_letters)))
        at = data.draw(st.integers(0, len(self.lanes[startup].dead_letters) - 1))
        kept = self.do(self.database.read(lambda connection: dead_letters.page(connection, startup)))
        dead_letter = kept.letters[::-1][at]
        line = dead_letter.rejection.payload.replace(b"\0", b"\n") or b"x"
        batch: Batch = ({startup: [line]}, [])

        def again(connection: sqlite3.Connection) -> None:
            assert dead_letters.delete(connection, dead_letter)
            write(outcome_of(batch), connection)

        self.do(self.database.write(again))
        self.journal.appended(blocks_of(batch[0]))
        del self.lanes[startup].dead_letters[at]
        self.count(batch)

    # ------------------------------------------------------------------ restarts and crashes

    @rule()
    def restart(self) -> None:
        self.do(self.database.close())
        self.open()

    @rule()
    def crash_at_rest(self) -> None:
        self.crash()
        self.bring_to_life()

    @rule(batch=BATCHES)
    def crash_after_commit(self, batch: Batch) -> None:
        """The batch is on disk, but nobody was notified."""
        self.do(self.database.write(partial(write, outcome_of(batch))))
        self.crash()
        self.count(batch)
        self.bring_to_life()

    @rule(batch=BATCHES, startup=STARTUPS)
    def crash_before_commit(self, batch: Batch, startup: str) -> None:
        """In the middle of a transaction that journals a batch and settles another: neither has happened."""
        entries = self.do(self.journal.take(startup, 100))
        written, go_on = threading.Event(), threading.Event()

        def halfway(connection: sqlite3.Connection) -> None:
            write(outcome_of(batch), connection)
            settle(startup, entries, [], connection)
            written.set()
            go_on.wait(WITHIN)

        async def until_written() -> asyncio.Task[None]:
            task = asyncio.create_task(self.database.write(halfway))
            assert await asyncio.to_thread(written.wait, WITHIN)
            return task

        task = self.do(until_written())
        self.crash()
        go_on.set()
        self.do(asyncio.wait_for(task, WITHIN))
        self.bring_to_life()

    # ------------------------------------------------------------------ what always holds

    @invariant()
    def nothing_is_lost(self) -> None:
        """Whatever was journaled and not removed is there, in the order of each startup, and is counted."""
        for startup, lane in self.lanes.items():
            entries = self.do(self.journal.take(startup, 1_000_000))
            assert [entry.lines for entry in entries] == lane.entries
        waiting = [line for lane in self.lanes.values() for line in lane.waiting]
        assert self.journal.readings == len(waiting)
        if not any(lane.intake for lane in self.lanes.values()):
            blocks = sum(len(lane.entries) for lane in self.lanes.values())
            assert self.journal.bytes == sum(map(len, waiting)) + len(waiting) - blocks

    @invariant()
    def ledger_balances(self) -> None:
        """The ledger balances, and says what the model says."""
        found = self.do(self.database.read(ledger.balance))
        assert all(counts.balanced for counts in found.values())
        for startup, lane in self.lanes.items():
            assert found.get(startup, Counts()) == lane.balance

    @invariant()
    def dead_letters_are_kept(self) -> None:
        """The newest rejections of each startup and all that its store refused are there, byte for byte; the dropped
        ones are counted."""
        for startup, lane in self.lanes.items():
            kept = self.do(self.database.read(partial(dead_letters.page, startup=startup)))
            payloads = [letter.payload for letter in lane.dead_letters]
            assert [one.rejection.payload for one in kept.letters[::-1]] == payloads
            totals = self.do(self.database.read(dead_letters.totals)).get(startup, Totals())
            assert (totals.kept, totals.dropped) == (len(lane.dead_letters), lane.dropped)
            assert totals.bytes >= sum(map(len, payloads))

    def teardown(self) -> None:
        if hasattr(self, "database"):
            self.do(self.database.close())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        shutil.rmtree(self.root)


TestStateOnDisk = pytest.mark.timeout(600)(StateOnDisk.TestCase)  # a failure is made smaller for up to five minutes
TestStateOnDisk.settings = settings(max_examples=40, stateful_step_count=25)
