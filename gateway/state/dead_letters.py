"""Rejections kept with their raw bytes, so that they can be inspected and replayed. Bounded per startup, by number and
by the bytes that they take on disk, everything included: the oldest are dropped first, and counted.

Invariants:

- What will not be kept is never written: a batch that is larger than the bounds does not make the file larger.
- Room is made before anything is written, so that SQLite uses the pages that become free: the file holds no more than
  the bounds allow, and does not shrink.
- One message pushes out no more than a small part of the others: a longer payload is cut. It cannot be replayed.

A point that the store refused is kept too: its topic is empty and its payload is the line itself. Such a one is never
dropped: see `gateway.state.refused_letters`. `records` is JSON: positions, and [first, last] of several that follow one
another.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import NamedTuple

from gateway import timestamps
from gateway.config.models import DeadLetterSettings
from gateway.model import MAX_POSITIONS, Code, Reason, Rejection
from gateway.state import letter_rows
from gateway.state.letter_rows import OVERHEAD, Row

MAX_ID = (1 << 63) - 1
LARGEST = 128 << 10
"""Bytes that one dead letter may take, unless `max_size` is so large or small that `_largest` says otherwise."""
NO_TOPIC = "(empty)"
"""Topic of a message without one: an empty one marks what a store refused."""
LISTED_PAYLOAD = 1024
"""Bytes of a payload in a list."""
PAGE = 256 << 10
"""Bytes of a page: it ends with the dead letter that goes beyond."""
_COLUMNS = "id, startup, device, topic, arrived_ns, records, reasons, payload, cut"
_LISTED = (
    "id, startup, device, topic, arrived_ns, records, reasons, "
    f"coalesce(substr(payload, 1, {LISTED_PAYLOAD}), x''), cut, length(payload)"  # SQLite's of an empty one is NULL
)
_PRUNE = """
DELETE FROM dead_letters WHERE id IN (
    SELECT id FROM dead_letters WHERE startup = ? AND topic <> '' ORDER BY id LIMIT ?) RETURNING size
"""
_ADD_TOTALS = """
INSERT INTO letter_totals VALUES (?, ?, ?, ?) ON CONFLICT (startup) DO UPDATE SET
    letters = letters + excluded.letters, bytes = bytes + excluded.bytes, dropped = dropped + excluded.dropped
"""
_FORGET_REFUSED = "UPDATE refused_totals SET letters = letters - 1, bytes = bytes - ? WHERE startup = ?"
_TOTALS = """
SELECT startup, sum(letters), sum(bytes), sum(dropped)
FROM (SELECT * FROM letter_totals UNION ALL SELECT startup, letters, bytes, 0 FROM refused_totals)
WHERE ?1 IS NULL OR startup = ?1 GROUP BY startup
"""


class Place(NamedTuple):
    """Position of a dead letter among the others, the oldest first."""

    arrived_ns: int
    id: int


NEWEST = Place(timestamps.MAX_NS, MAX_ID)
"""Position after all dead letters."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A kept rejection; `id` grows with time. A list has the beginning of the payload only; `kept` is its whole size on
    disk, which is less than it was when it arrived where the payload was too long to be kept whole."""

    id: int
    rejection: Rejection
    kept: int

    @property
    def place(self) -> Place:
        return Place(self.rejection.arrived_ns, self.id)

    @property
    def is_line(self) -> bool:
        """Whether the payload is a line that the store refused, rather than a device's message."""
        return not self.rejection.topic

    @property
    def is_whole(self) -> bool:
        """Whether all of the payload was kept, so that it can be replayed."""
        return self.kept == self.rejection.size

    def as_json(self) -> dict[str, object]:
        """Return the form of the HTTP API and the command line. Bytes that are not UTF-8 are escaped."""
        rejection = self.rejection
        return {
            "id": self.id,
            "startup": rejection.startup,
            "device": rejection.device,
            "topic": rejection.topic,
            "arrived": timestamps.to_rfc3339(rejection.arrived_ns),
            "records": list(rejection.records[:MAX_POSITIONS]),
            "count": rejection.count,
            "reasons": [reason.as_json() for reason in rejection.reasons],
            "payload": rejection.payload.decode("utf-8", "backslashreplace"),
            "bytes": rejection.size,
            "kept": self.kept,
            "cut": rejection.cut > 0,
        }


@dataclass(frozen=True, slots=True)
class Page:
    """Some dead letters, the newest first; `is_last` says that there are no older ones."""

    letters: list[DeadLetter]
    is_last: bool


@dataclass(frozen=True, slots=True)
class Totals:
    """Number and bytes (with all that they take on disk) of the dead letters kept of one startup, and how many were
    dropped."""

    kept: int = 0
    bytes: int = 0
    dropped: int = 0

    def __add__(self, other: Totals) -> Totals:
        return Totals(self.kept + other.kept, self.bytes + other.bytes, self.dropped + other.dropped)


def insert(connection: sqlite3.Connection, rejections: Sequence[Rejection], bounds: DeadLetterSettings) -> None:
    """Keep rejections; runs inside `Database.write`."""
    by_startup: dict[str, list[tuple[int, Rejection]]] = {}
    for number, rejection in enumerate(rejections):
        by_startup.setdefault(rejection.startup, []).append((number, rejection))
    rows: list[tuple[int, Row]] = []
    for startup, several in by_startup.items():
        kept = list(_newest(several, bounds))
        size = sum(row.size for _, row in kept)
        _make_room(connection, startup, len(kept), size, bounds)
        connection.execute(_ADD_TOTALS, (startup, len(kept), size, len(several) - len(kept)))
        rows += kept
    letter_rows.write(connection, [row for _, row in sorted(rows)])


def page(
    connection: sqlite3.Connection, startup: str | None = None, *, before: Place = NEWEST, limit: int = 100
) -> Page:
    """Return the newest first; `before` is the place of the last dead letter on the previous page. Payloads are cut."""
    query = f"SELECT {_LISTED} FROM dead_letters WHERE (arrived_ns, id) < (?, ?) "  # noqa: S608  # constant text
    values: list[object] = [*before]
    if startup is not None:
        query += "AND startup = ? "
        values.append(startup)
    found: list[DeadLetter] = []
    size = 0
    for *row, kept in connection.execute(query + "ORDER BY arrived_ns DESC, id DESC LIMIT ?", [*values, limit]):
        found.append(_dead_letter(tuple(row), kept, MAX_POSITIONS))
        size += OVERHEAD + sum(len(value) for value in row if isinstance(value, str | bytes))
        if size >= PAGE:
            return Page(found, is_last=False)
    return Page(found, is_last=len(found) < limit)


def get(connection: sqlite3.Connection, ident: int) -> DeadLetter | None:
    """Return one dead letter, or None if it no longer exists."""
    row = connection.execute(f"SELECT {_COLUMNS} FROM dead_letters WHERE id = ?", (ident,)).fetchone()  # noqa: S608
    return _dead_letter(row, len(row[7])) if row else None


def startup_of(connection: sqlite3.Connection, ident: int) -> str | None:
    """Return the startup of a dead letter, or None if it no longer exists."""
    row = connection.execute("SELECT startup FROM dead_letters WHERE id = ?", (ident,)).fetchone()
    return row[0] if row else None


def delete(connection: sqlite3.Connection, dead_letter: DeadLetter) -> bool:
    """Delete a replayed dead letter; return False if it no longer exists."""
    deleted = connection.execute("DELETE FROM dead_letters WHERE id = ? RETURNING size", (dead_letter.id,)).fetchone()
    if deleted is None:
        return False
    startup = dead_letter.rejection.startup
    if dead_letter.is_line:
        connection.execute(_FORGET_REFUSED, (*deleted, startup))
    else:
        connection.execute(_ADD_TOTALS, (startup, -1, -deleted[0], 0))
    return True


def totals(connection: sqlite3.Connection, startup: str | None = None) -> dict[str, Totals]:
    """Return the totals of each startup that ever had a dead letter, or of one."""
    return {startup: Totals(*counts) for startup, *counts in connection.execute(_TOTALS, (startup,))}


def add_sizes(connection: sqlite3.Connection) -> None:
    """Add to a file of an early version what it counts now: the size of each dead letter, with all that is in it."""
    if connection.execute("SELECT 1 FROM pragma_table_info('dead_letters') WHERE name = 'size'").fetchone():
        return
    connection.executescript(f"""
        BEGIN;
        ALTER TABLE dead_letters ADD COLUMN cut INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE dead_letters ADD COLUMN size INTEGER NOT NULL DEFAULT 0;
        UPDATE dead_letters SET size = {OVERHEAD} + length(payload) + length(CAST(topic || device AS BLOB))
            + length(CAST(records || reasons AS BLOB));
        UPDATE letter_totals SET bytes = coalesce(
            (SELECT sum(size) FROM dead_letters WHERE dead_letters.startup = letter_totals.startup), 0);
        COMMIT;
    """)  # noqa: S608  # a constant


def _newest(rejections: Sequence[tuple[int, Rejection]], bounds: DeadLetterSettings) -> Iterator[tuple[int, Row]]:
    """Yield the rows of those that fit into the bounds, the newest first, each with its number."""
    kept = size = 0
    for number, rejection in reversed(rejections):
        row = letter_rows.within(rejection, rejection.topic or NO_TOPIC, _largest(bounds))
        if row is None:
            continue
        kept, size = kept + 1, size + row.size
        if kept > bounds.max_count or size > bounds.max_size:
            return
        yield number, row


def _make_room(
    connection: sqlite3.Connection, startup: str, letters: int, size: int, bounds: DeadLetterSettings
) -> None:
    """Drop the oldest until the new ones fit within the bounds; a tenth at a time, so that it is seldom done."""
    held = connection.execute("SELECT letters, bytes FROM letter_totals WHERE startup = ?", (startup,)).fetchone()
    kept, used = held or (0, 0)
    while kept and (kept + letters > bounds.max_count or used + size > bounds.max_size):
        oldest = max(kept + letters - bounds.max_count, kept // 10, 1)
        sizes = [one for (one,) in connection.execute(_PRUNE, (startup, oldest))]
        if not sizes:  # fewer are there than are counted
            return
        connection.execute(_ADD_TOTALS, (startup, -len(sizes), -sum(sizes), len(sizes)))
        kept, used = kept - len(sizes), used - sum(sizes)


def _largest(bounds: DeadLetterSettings) -> int:
    """Return the bytes that one dead letter may take: a small part of `max_size`."""
    return max(bounds.max_size // 64, min(bounds.max_size // 4, LARGEST))


def _dead_letter(
    row: tuple[int, str, str, str, int, str, str, bytes, int], kept: int, positions: int | None = None
) -> DeadLetter:
    """Return a row as it was kept, or with at most `positions` positions of records."""
    ident, startup, device, topic, arrived_ns, records, reasons_json, payload, cut = row
    reasons, runs = _read_reasons(reasons_json), _read_runs(records)
    shown = tuple(islice(chain.from_iterable(runs), positions))
    further = sum(len(run) for run in runs) - len(shown)
    cut += kept - len(payload)
    return DeadLetter(ident, Rejection(startup, device, topic, payload, arrived_ns, reasons, shown, cut, further), kept)


def _read_reasons(text: str) -> tuple[Reason, ...]:
    try:
        return tuple(Reason(**{**reason, "code": Code(reason["code"])}) for reason in json.loads(text))
    except (ValueError, TypeError, KeyError):
        return (_DAMAGED,)


def _read_runs(text: str) -> list[range]:
    try:
        return [
            range(run, run + 1) if isinstance(run, int) else range(int(run[0]), int(run[1]) + 1)
            for run in json.loads(text)
        ]
    except (ValueError, TypeError, LookupError):
        return []  # a replay judges all records of the message again


_DAMAGED = Reason(
    Code.STORE_REFUSED, "payload", "a dead letter as it was written", "a damaged one", "replay it: its payload is kept"
)
"""Shown for reasons that cannot be read any more."""
