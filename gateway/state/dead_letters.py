"""Rejections kept with their raw bytes, so that they can be inspected and replayed. Bounded per startup: the oldest are
dropped first, and counted.

A point that the store refused is kept too: its topic is empty and its payload is the line itself.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gateway import timestamps
from gateway.config.models import DeadLetterSettings
from gateway.model import Code, Reason, Rejection

MAX_ID = (1 << 63) - 1
_COLUMNS = "id, startup, device, topic, arrived_ns, records, reasons, payload"
_PRUNE = """
DELETE FROM dead_letters WHERE id IN (SELECT id FROM dead_letters WHERE startup = ? ORDER BY id LIMIT ?)
RETURNING length(payload)
"""
_ADD_TOTALS = """
INSERT INTO letter_totals VALUES (?, ?, ?, ?) ON CONFLICT (startup) DO UPDATE SET
    letters = letters + excluded.letters, bytes = bytes + excluded.bytes, dropped = dropped + excluded.dropped
"""


class Place(NamedTuple):
    """Position of a dead letter among the others, the oldest first."""

    arrived_ns: int
    id: int


NEWEST = Place(timestamps.MAX_NS, MAX_ID)
"""Position after all dead letters."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A kept rejection; `id` grows with time."""

    id: int
    rejection: Rejection

    @property
    def place(self) -> Place:
        return Place(self.rejection.arrived_ns, self.id)

    @property
    def is_line(self) -> bool:
        """Whether the payload is a line that the store refused, rather than a device's message."""
        return not self.rejection.topic

    def as_json(self) -> dict[str, object]:
        """Return the form of the HTTP API and the command line. Bytes that are not UTF-8 are escaped."""
        rejection = self.rejection
        return {
            "id": self.id,
            "startup": rejection.startup,
            "device": rejection.device,
            "topic": rejection.topic,
            "arrived": timestamps.to_rfc3339(rejection.arrived_ns),
            "records": list(rejection.records),
            "reasons": [reason.as_json() for reason in rejection.reasons],
            "payload": rejection.payload.decode("utf-8", "backslashreplace"),
            "bytes": len(rejection.payload),
        }


@dataclass(frozen=True, slots=True)
class Totals:
    """The number and bytes of the dead letters kept of one startup, and how many older ones were dropped."""

    kept: int = 0
    bytes: int = 0
    dropped: int = 0

    def __add__(self, other: Totals) -> Totals:
        return Totals(self.kept + other.kept, self.bytes + other.bytes, self.dropped + other.dropped)


def insert(connection: sqlite3.Connection, rejections: Sequence[Rejection], bounds: DeadLetterSettings) -> None:
    """Keep rejections; runs inside `Database.write`."""
    connection.executemany(
        "INSERT INTO dead_letters (startup, device, topic, arrived_ns, records, reasons, payload) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        [_row(rejection) for rejection in rejections],
    )
    for startup in {rejection.startup for rejection in rejections}:
        sizes = [len(rejection.payload) for rejection in rejections if rejection.startup == startup]
        connection.execute(_ADD_TOTALS, (startup, len(sizes), sum(sizes), 0))
        _prune(connection, startup, bounds)


def page(
    connection: sqlite3.Connection, startup: str | None = None, *, before: Place = NEWEST, limit: int = 100
) -> list[DeadLetter]:
    """Return the newest first; `before` is the place of the last dead letter on the previous page."""
    query = f"SELECT {_COLUMNS} FROM dead_letters WHERE (arrived_ns, id) < (?, ?) "  # noqa: S608  # constant text
    values: list[object] = [*before]
    if startup is not None:
        query += "AND startup = ? "
        values.append(startup)
    rows = connection.execute(query + "ORDER BY arrived_ns DESC, id DESC LIMIT ?", [*values, limit])
    return [_dead_letter(row) for row in rows]


def get(connection: sqlite3.Connection, ident: int) -> DeadLetter | None:
    """Return one dead letter, or None if it no longer exists."""
    row = connection.execute(f"SELECT {_COLUMNS} FROM dead_letters WHERE id = ?", (ident,)).fetchone()  # noqa: S608
    return _dead_letter(row) if row else None


def delete(connection: sqlite3.Connection, dead_letter: DeadLetter) -> bool:
    """Delete a replayed dead letter; return False if it no longer exists."""
    is_deleted = connection.execute("DELETE FROM dead_letters WHERE id = ?", (dead_letter.id,)).rowcount == 1
    if is_deleted:
        rejection = dead_letter.rejection
        connection.execute(_ADD_TOTALS, (rejection.startup, -1, -len(rejection.payload), 0))
    return is_deleted


def totals(connection: sqlite3.Connection) -> dict[str, Totals]:
    """Return the totals of each startup that ever had a dead letter."""
    rows = connection.execute("SELECT startup, letters, bytes, dropped FROM letter_totals")
    return {startup: Totals(*counts) for startup, *counts in rows}


def _prune(connection: sqlite3.Connection, startup: str, bounds: DeadLetterSettings) -> None:
    """Drop the oldest until the startup is within its bounds; a tenth at a time, so that it is seldom done."""
    while True:
        held = totals(connection)[startup]
        if held.kept <= bounds.max_count and held.bytes <= bounds.max_size:
            return
        count = max(held.kept - bounds.max_count, held.kept // 10, 1)
        sizes = [size for (size,) in connection.execute(_PRUNE, (startup, count))]
        connection.execute(_ADD_TOTALS, (startup, -len(sizes), -sum(sizes), len(sizes)))


def _row(rejection: Rejection) -> tuple[object, ...]:
    reasons = json.dumps([reason.as_json() for reason in rejection.reasons], ensure_ascii=False)
    return (
        rejection.startup,
        rejection.device,
        rejection.topic,
        rejection.arrived_ns,
        json.dumps(rejection.records),
        reasons,
        rejection.payload,
    )


def _dead_letter(row: tuple[int, str, str, str, int, str, str, bytes]) -> DeadLetter:
    ident, startup, device, topic, arrived_ns, records, reasons_json, payload = row
    reasons = tuple(Reason(**{**reason, "code": Code(reason["code"])}) for reason in json.loads(reasons_json))
    rejection = Rejection(startup, device, topic, payload, arrived_ns, reasons, tuple(json.loads(records)))
    return DeadLetter(ident, rejection)
