"""Reads the ledger and the dead letters of all state databases under one state directory.

A gateway that is one process has one database, `gateway.db`. With several workers each has its own: that of the first
is in the state directory, the others are in `workers/N/`. A dead letter's id is then its id there times 1,000 plus the
worker.

Blocking: callers in the event loop use a thread.
"""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

from gateway.errors import StateUnavailable
from gateway.model import Counts
from gateway.state import dead_letters, field_types, ledger, sequences
from gateway.state.database import FILE_NAME, read_only
from gateway.state.dead_letters import NEWEST, DeadLetter, Page, Place, Totals
from gateway.state.field_types import FieldType
from gateway.state.sequences import Sequence
from gateway.state.workers import MAX_WORKERS, home, workers

T = TypeVar("T")


class StateReader:
    """All databases of a state directory, including those of workers no longer configured.

    Every method raises `StateUnavailable` where a database cannot be read, or does not exist yet.
    """

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir

    def balance(self, startup: str | None = None) -> dict[str, Counts]:
        """Return the ledger of every startup that ever sent something, or of one, sorted by name."""
        found: dict[str, Counts] = {}
        for _, path in self._databases():
            for slug, counts in read_only(path, partial(ledger.balance, startup=startup)).items():
                found[slug] = found.get(slug, Counts()) + counts
        return dict(sorted(found.items()))

    def totals(self, startup: str | None = None) -> dict[str, Totals]:
        """Return how many dead letters are kept of each startup, or of one."""
        found: dict[str, Totals] = {}
        for _, path in self._databases():
            for slug, totals in read_only(path, partial(dead_letters.totals, startup=startup)).items():
                found[slug] = found.get(slug, Totals()) + totals
        return found

    def dead_letters(self, startup: str | None = None, *, before: Place = NEWEST, limit: int = 100) -> Page:
        """Return the newest dead letters first, of one startup or of all, from the place `before` back."""
        pages = []
        has_workers = self._has_workers()
        for worker, path in self._databases():
            place = _local_place(before, worker) if has_workers else before
            page = read_only(path, partial(dead_letters.page, startup=startup, before=place, limit=limit))
            pages.append(_of_worker(page, worker) if has_workers else page)
        # What comes after the end of a page that has older ones after it may be newer than those.
        end = max((page.letters[-1].place for page in pages if not page.is_last), default=None)
        merged = heapq.merge(*(page.letters for page in pages), key=lambda one: one.place, reverse=True)
        letters = [one for one in islice(merged, limit) if end is None or one.place >= end]
        return Page(letters, is_last=len(letters) == sum(len(page.letters) for page in pages) and end is None)

    def dead_letter(self, ident: int) -> DeadLetter | None:
        """Return one dead letter, or None if it no longer exists."""
        found = self._of_one(ident, dead_letters.get)
        return replace(found, id=ident) if found else None

    def sequences(self, startup: str, device: str) -> dict[str, Sequence]:
        """Return the sequences of a device by measurement."""
        parts: dict[str, list[Sequence]] = {}
        for _, path in self._databases():
            for name, one in read_only(path, partial(sequences.of_device, startup=startup, device=device)).items():
                parts.setdefault(name, []).append(one)
        return {name: sequences.combined(several) for name, several in sorted(parts.items())}

    def is_waiting(self, startup: str, device: str, measurement: str, wanted: tuple[str, str]) -> bool | None:
        """Return whether a journal holds a reading with one of these fields; None where it is too long to be read."""
        look = partial(sequences.is_waiting, startup=startup, device=device, measurement=measurement, wanted=wanted)
        found = [read_only(path, look) for _, path in self._databases()]
        return True if True in found else None if None in found else False

    def startup_of(self, ident: int) -> str | None:
        """Return the startup of a dead letter, or None if it no longer exists."""
        return self._of_one(ident, dead_letters.startup_of)

    def types(self, startup: str | None = None) -> list[FieldType]:
        """Return the types of fields, of all startups or of one, as each worker knows them; none where there is no
        state yet."""
        found: list[FieldType] = []
        try:
            paths = [path for _, path in self._databases() if path.exists()]
        except OSError as error:
            raise StateUnavailable(f"{self._state_dir}: {error.strerror}") from error
        for path in paths:
            found += read_only(path, partial(field_types.types, startup=startup))
        return found

    def _of_one(self, ident: int, read: Callable[[sqlite3.Connection, int], T | None]) -> T | None:
        worker, local = self.place(ident)
        path = home(self._state_dir, worker) / FILE_NAME
        if worker and not path.exists():
            return None
        return read_only(path, lambda connection: read(connection, local))

    def place(self, ident: int) -> tuple[int, int]:
        """Return the worker that keeps a dead letter, and its id there."""
        return (ident % MAX_WORKERS, ident // MAX_WORKERS) if self._has_workers() else (0, ident)

    def _has_workers(self) -> bool:
        return bool(workers(self._state_dir))

    def _databases(self) -> Iterator[tuple[int, Path]]:
        others = workers(self._state_dir)
        first = self._state_dir / FILE_NAME
        if first.exists() or not others:
            yield 0, first
        yield from ((worker, home(self._state_dir, worker) / FILE_NAME) for worker in others)


def _of_worker(page: Page, worker: int) -> Page:
    return Page([replace(one, id=one.id * MAX_WORKERS + worker) for one in page.letters], page.is_last)


def _local_place(place: Place, worker: int) -> Place:
    """Return the same place in a worker's own numbers: behind all of its dead letters that come before it."""
    local, owner = divmod(place.id, MAX_WORKERS)
    return Place(place.arrived_ns, local + (worker < owner))
