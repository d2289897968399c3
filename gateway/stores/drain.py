"""From the journal to the store, one lane a startup, so that none waits for another.

Invariants:
- An entry leaves the journal in the transaction that counts its readings as stored or refused.
- A store that cannot be written is tried again for as long as it takes; no reading is refused for that.
- Of a batch that the store refuses, only the bad points are refused: it is halved until they stand alone.
- Writing the same readings again (after a crash) changes nothing: same series, same times.
- The listener is notified of refused points once they are dead letters, in one call for the entries that held them.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gateway.backoff import pauses
from gateway.config.models import DrainSettings
from gateway.errors import StateUnavailable, StoreRefused, StoreUnavailable
from gateway.line_protocol import device_of
from gateway.logs import get_logger
from gateway.model import Code, Counts, Listener, Reason, Rejection
from gateway.state import ledger
from gateway.state.journal import TAKE_AT_ONCE, Entry, Journal
from gateway.state.worker_state import WorkerState
from gateway.stores.contract import Store

log = get_logger(__name__)

RefusedLine = tuple[bytes, str]
"""A line that the store will never accept, and its answer."""


@dataclass(frozen=True, slots=True)
class LaneState:
    """State of one startup's lane. `problem` is empty while the store takes its readings; times in ns since 1970."""

    problem: str = ""
    since_ns: int = 0
    stored_ns: int = 0


class Drain:
    """All lanes. `listener` is notified of the points that the store refused."""

    def __init__(self, state: WorkerState, store: Store, settings: DrainSettings, listener: Listener) -> None:
        self._state = state
        self._journal = state.journal
        self._store = store
        self._settings = settings
        self._listener = listener
        self._stopping = asyncio.Event()
        self._is_sorted = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None
        self._early: set[str] = set()
        """Startups that were added before `run`."""
        self._states: dict[str, LaneState] = {}

    @property
    def states(self) -> Mapping[str, LaneState]:
        return self._states

    async def run(self, startups: Iterable[str]) -> None:
        """Work until `stop`, then until the journal is empty. Removed startups that left readings have lanes too."""
        async with asyncio.TaskGroup() as self._tasks:
            self.add({*startups, *self._early, *self._journal.startups()})
            sorting = self._tasks.create_task(self._sort(), name="drain-sort")
            await self._stopping.wait()
            sorting.cancel()
            await self._try_to_sort()
            self._is_sorted.set()
            self._journal.wake_all()

    def add(self, startups: Iterable[str]) -> None:
        """Open lanes for startups that have none yet, unless it is time to stop."""
        if self._stopping.is_set():
            return
        if self._tasks is None:
            self._early |= set(startups)
            return
        for startup in sorted(set(startups) - self._states.keys()):
            self._states[startup] = LaneState()
            self._tasks.create_task(self._lane(startup), name=f"drain-{startup}")

    def stop(self) -> None:
        """Store the rest, then end."""
        self._stopping.set()

    async def _sort(self) -> None:
        """Let a batch grow for a moment, then give each lane the readings of its startup."""
        while True:
            await self._journal.arrived()
            await asyncio.sleep(self._settings.interval)
            await self._try_to_sort()

    async def _try_to_sort(self) -> None:
        try:
            await self._journal.sort()
        except StateUnavailable as error:  # ingest, which writes the same file all the time, reports it
            log.debug("the journal is not sorted", problem=str(error))

    async def _lane(self, startup: str) -> None:
        is_last = False
        while not is_last:
            if not self._is_sorted.is_set():
                await self._journal.filled(startup)
            is_last = self._is_sorted.is_set()
            while entries := await self._take(startup):
                await self._move(startup, entries)
                if self._is_rest(entries):
                    break

    async def _take(self, startup: str) -> list[Entry]:
        """Take the oldest entries, for as long as it takes to read them."""
        waits = pauses()
        while True:
            try:
                return await self._journal.take(startup, self._settings.batch)
            except StateUnavailable as error:
                self._note_problem(startup, str(error))
                await asyncio.sleep(next(waits))

    def _is_rest(self, entries: Sequence[Entry]) -> bool:
        """Return whether these were all: the next batch may grow for a moment."""
        size = sum(len(entry.block) for entry in entries)
        return sum(entry.readings for entry in entries) < self._settings.batch and size < TAKE_AT_ONCE

    async def _move(self, startup: str, entries: Sequence[Entry]) -> None:
        lines = [line for entry in entries for line in entry.lines]
        size = self._settings.batch
        refused: list[RefusedLine] = []
        for start in range(0, len(lines), size):
            refused += await self._write(startup, lines[start : start + size])
        rejections = [_rejection(startup, line, answer) for line, answer in refused]
        await self._settle(startup, entries, len(lines) - len(refused), rejections)
        await self._journal.removed(startup, entries)
        if rejections:
            log.warning("the store refused points", startup=startup, points=len(rejections), first=refused[0][1])
            self._listener.rejected(rejections)

    async def _write(self, startup: str, lines: Sequence[bytes]) -> list[RefusedLine]:
        """Write for as long as it takes; return the lines that can never be written."""
        waits = pauses(longest=self._settings.max_backoff)
        while True:
            try:
                await self._store.write(startup, lines)
            except StoreUnavailable as error:
                self._note_problem(startup, str(error))
                await asyncio.sleep(error.delay(next(waits)))
            except StoreRefused as error:
                if len(lines) == 1:
                    return [(lines[0], str(error))]
                middle = len(lines) // 2
                return await self._write(startup, lines[:middle]) + await self._write(startup, lines[middle:])
            else:
                self._note_stored(startup)
                return []

    async def _settle(self, startup: str, entries: Sequence[Entry], stored: int, rejections: list[Rejection]) -> None:
        def work(connection: sqlite3.Connection) -> None:
            Journal.remove(connection, entries)
            if rejections:
                self._state.keep(connection, rejections)
            ledger.add(connection, {startup: Counts(stored=stored, refused=len(rejections))})

        waits = pauses()
        while True:
            try:
                return await self._state.database.write(work)
            except StateUnavailable as error:
                self._note_problem(startup, str(error))
                await asyncio.sleep(next(waits))

    def _note_problem(self, startup: str, problem: str) -> None:
        state = self._states[startup]
        if not state.problem:
            log.warning(
                "store not written",
                startup=startup,
                problem=problem,
                next="readings wait in the journal; trying again, with growing pauses",
            )
        since = state.since_ns if state.problem else time.time_ns()
        self._states[startup] = LaneState(problem, since, state.stored_ns)

    def _note_stored(self, startup: str) -> None:
        if self._states[startup].problem:
            log.info("store written again", startup=startup)
        now_ns = time.time_ns()
        self._states[startup] = LaneState("", now_ns, now_ns)


def _rejection(startup: str, line: bytes, answer: str) -> Rejection:
    reason = Reason(
        Code.STORE_REFUSED,
        "payload",
        "a point that the store accepts",
        answer,
        "has the type of a field changed? Give the field a new name, or replay once the store is repaired",
    )
    return Rejection(startup, device_of(line), "", line, time.time_ns(), (reason,))
