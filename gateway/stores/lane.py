"""One startup's lane from the journal to its store.

Invariants:
- An entry leaves the journal in the transaction that counts its readings as stored or refused.
- A store that cannot be written is tried again for as long as it takes; no reading is refused for that.
- Of a batch that the store refuses, only the bad points are refused: it is halved until they stand alone.
- Writing the same readings again (after a crash) changes nothing: same series, same times.
- A lane whose store refuses most of what it is given, the newest readings too, stops before they become dead letters,
  and tries again slowly: the store is wrong, or all readings are, and that is for an operator to say.
- A refused reading leaves the journal only when there is room to keep it as a dead letter.
- The listener is notified of refused points once they are dead letters, in one call for the entries that held them.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from gateway.backoff import pauses
from gateway.config.models import DrainSettings
from gateway.errors import DeadLettersFull, StateUnavailable, StoreError, StoreRefused, StoreUnavailable
from gateway.line_protocol import device_of
from gateway.logs import folded, get_logger
from gateway.model import Code, Counts, Listener, Reason, Rejection
from gateway.state import ledger
from gateway.state.journal import TAKE_AT_ONCE, Entry, Journal
from gateway.state.worker_state import WorkerState
from gateway.stores.contract import Store
from gateway.stores.pace import fitting
from gateway.stores.refused_share import RefusedShare

PROBE = 20
"""The newest readings that are offered to a store which refuses most of what it is given."""
WRITES_A_TAKE = 4
"""Writes that the readings taken at once should need: a slow store holds few, and they leave the journal in between."""

ADVICE = (
    "the readings wait in the journal, and the newest are offered again and again; correct the type, the bucket or its "
    "retention, or let them become dead letters: gateway lanes release"
)

log = get_logger(__name__)
T = TypeVar("T")

RefusedLine = tuple[bytes, str]
"""A line that the store will never accept, and its answer."""


@dataclass(frozen=True, slots=True)
class LaneState:
    """State of one startup's lane. `problem` is empty while the store takes its readings; `is_stopped` says that it
    refused most of them; times in ns since 1970."""

    problem: str = ""
    since_ns: int = 0
    stored_ns: int = 0
    is_stopped: bool = False


class Lane:
    """Moves the readings of `startup`. `ending` is set once nothing further arrives: then it ends with the journal's
    last reading."""

    def __init__(
        self, startup: str, state: WorkerState, store: Store, settings: DrainSettings, listener: Listener
    ) -> None:
        self.state = LaneState()
        self._startup = startup
        self._worker_state = state
        self._journal = state.journal
        self._store = store
        self._settings = settings
        self._listener = listener
        self._share = RefusedShare()
        self._released = asyncio.Event()
        self._trusted = 0
        """Readings to come; any number of them may be refused: an operator released the lane."""

    def release(self) -> None:
        """Let a stopped lane go on: whatever the store refuses of the readings that wait becomes dead letters."""
        self._released.set()

    async def run(self, ending: asyncio.Event) -> None:
        """Work until `ending`, then until the journal has no readings of this startup."""
        is_last = False
        while not is_last:
            if not ending.is_set():
                await self._journal.filled(self._startup)
            is_last = ending.is_set()
            while entries := await self._take():
                await self._move(entries)
                if self._is_rest(entries):
                    break

    async def _take(self) -> list[Entry]:
        return await self._read(lambda: self._journal.take(self._startup, self._settings.batch, self._bytes_at_once))

    @property
    def _bytes_at_once(self) -> int:
        return min(TAKE_AT_ONCE, WRITES_A_TAKE * self._store.bytes_at_once(self._startup))

    def _is_rest(self, entries: Sequence[Entry]) -> bool:
        """Return whether these were all: the next batch may grow for a moment."""
        size = sum(len(entry.block) for entry in entries)
        return sum(entry.readings for entry in entries) < self._settings.batch and size < self._bytes_at_once

    async def _move(self, entries: Sequence[Entry]) -> None:
        lines = [line for entry in entries for line in entry.lines]
        refused = await self._offer(lines)
        self._trusted = max(0, self._trusted - len(lines))
        rejections = [_rejection(self._startup, line, answer) for line, answer in refused]
        await self._settle(entries, len(lines) - len(refused), rejections)
        await self._journal.removed(self._startup, entries)
        if self.state.problem:  # it may be quiet from now on
            self._note_end_of_problem()
        if rejections:
            log.warning("the store refused points", startup=self._startup, points=len(rejections), first=refused[0][1])
            self._listener.rejected(rejections)

    async def _offer(self, lines: Sequence[bytes], *, is_probe: bool = False) -> list[RefusedLine]:
        """Write for as long as it takes; return the lines that can never be written."""
        refused: list[RefusedLine] = []
        parts = [lines]  # the last one is next
        waits = pauses(longest=self._settings.max_backoff)
        while parts:
            part = self._next(parts)
            try:
                await self._write(part)
            except StoreUnavailable as error:
                parts.append(part)
                self._note_problem(str(error))
                await asyncio.sleep(min(error.delay(next(waits)), self._settings.max_backoff))
                continue
            except StoreRefused as error:
                if len(part) > 1:
                    middle = len(part) // 2
                    parts += [part[middle:], part[:middle]]
                else:
                    refused.append((part[0], str(error)))
                    if not is_probe and self._is_suspicious() and not await self._is_sound():
                        parts.append([line for line, _ in refused])
                        await self._wait_until_sound(refused[-1][1])
                        refused.clear()
            else:
                self._note_stored()
                if not is_probe:
                    self._share.add(stored=len(part))
            waits = pauses(longest=self._settings.max_backoff)
        return refused

    def _next(self, parts: list[Sequence[bytes]]) -> Sequence[bytes]:
        """Take from the last part as much as the store takes at once now."""
        part = parts.pop()
        count = min(self._settings.batch, fitting(part, self._store.bytes_at_once(self._startup)))
        if count < len(part):
            parts.append(part[count:])
        return part[:count]

    async def _write(self, lines: Sequence[bytes]) -> None:
        try:
            await self._store.write(self._startup, lines)
        except StoreError:
            raise
        except Exception as error:  # a defect: it must not end the lanes of others
            if not self.state.problem:
                log.warning("a write failed as nobody foresaw", startup=self._startup, problem=folded(error))
            raise StoreUnavailable(f"the write failed as nobody foresaw: {type(error).__name__}: {error}") from error

    def _is_suspicious(self) -> bool:
        """Count a refused reading; return whether these are too many of late."""
        self._share.add(refused=1)
        if not self._share.is_too_high or self._trusted:
            return False
        self._share = RefusedShare()
        return True

    async def _is_sound(self) -> bool:
        """Return whether the store takes the newest readings, or at least half of them."""
        newest = await self._read(lambda: self._journal.newest(self._startup, PROBE))
        return len(await self._offer(newest, is_probe=True)) * 2 <= len(newest)

    async def _wait_until_sound(self, answer: str) -> None:
        """Stop, and offer the newest readings with growing pauses, until the store takes them or an operator says that
        it is right."""
        log.error("lane stopped: its store refuses most readings", startup=self._startup, answer=answer, next=ADVICE)
        problem = f"the lane has stopped, because the store refuses most of this startup's readings: {answer}; {ADVICE}"
        self.state = LaneState(problem, time.time_ns(), self.state.stored_ns, is_stopped=True)
        self._released.clear()
        waits = pauses(longest=self._settings.max_backoff)
        while not self._released.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(next(waits)):
                    await self._released.wait()
            if not self._released.is_set() and await self._is_sound():
                break
            self._note_problem(problem)  # a probe that the store could not answer has another one
        if self._released.is_set():
            self._trusted = self._journal.held(self._startup).readings
        self.state = LaneState("", time.time_ns(), self.state.stored_ns)
        log.info("lane goes on", startup=self._startup, released=self._released.is_set())

    async def _read(self, read: Callable[[], Awaitable[T]]) -> T:
        """Read from the journal, for as long as it takes."""
        waits = pauses()
        while True:
            try:
                return await read()
            except StateUnavailable as error:
                self._note_problem(str(error))
                await asyncio.sleep(next(waits))

    async def _settle(self, entries: Sequence[Entry], stored: int, rejections: list[Rejection]) -> None:
        def work(connection: sqlite3.Connection) -> None:
            Journal.remove(connection, entries)
            if rejections:
                self._worker_state.keep_refused(connection, self._startup, rejections)
            ledger.add(connection, {self._startup: Counts(stored=stored, refused=len(rejections))})

        waits = pauses()
        while True:
            try:
                return await self._worker_state.database.write(work)
            except (StateUnavailable, DeadLettersFull) as error:
                self._note_problem(str(error))
                await asyncio.sleep(next(waits))

    def _note_problem(self, problem: str) -> None:
        state = self.state
        if not state.problem:
            log.warning(
                "store not written",
                startup=self._startup,
                problem=problem,
                next="readings wait in the journal; trying again, with growing pauses",
            )
        since = state.since_ns if state.problem else time.time_ns()
        self.state = LaneState(problem, since, state.stored_ns, state.is_stopped)

    def _note_stored(self) -> None:
        if self.state.is_stopped:
            return  # what was a probe says how it goes on
        if self.state.problem:
            self._note_end_of_problem()
        now_ns = time.time_ns()
        self.state = LaneState("", now_ns, now_ns)

    def _note_end_of_problem(self) -> None:
        log.info("store written again", startup=self._startup)
        self.state = LaneState("", time.time_ns(), self.state.stored_ns)


def _rejection(startup: str, line: bytes, answer: str) -> Rejection:
    reason = Reason(
        Code.STORE_REFUSED,
        "payload",
        "a point that the store accepts",
        answer,
        "has the type of a field changed? Give the field a new name, or replay once the store is repaired",
    )
    return Rejection(startup, device_of(line), "", line, time.time_ns(), (reason,))
