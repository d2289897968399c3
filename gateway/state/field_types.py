"""Types of the fields of each measurement, as the first readings fixed them, and the messages that wait for a type.

    types      one row per field; type: float | int | bool | string, or empty where an operator had it forgotten;
               `device` sent the first value, or is empty where the rule names the field
    undecided  messages with a field whose type is not certain yet, by the time of their first reading

A worker reads the rows of all workers, since a startup may have been another's: the newest row of a field counts.
The functions that take a connection run inside `Database.write` or `Database.read`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from gateway import timestamps

Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class FieldType:
    """Type of a field, and since when: `type` is empty once it is forgotten."""

    startup: str
    measurement: str
    field: str
    type: str
    device: str
    since_ns: int

    @property
    def key(self) -> Key:
        return self.startup, self.measurement, self.field

    def as_json(self) -> dict[str, str | None]:
        return {
            "measurement": self.measurement,
            "field": self.field,
            "type": self.type,
            "device": self.device or None,
            "since": timestamps.to_rfc3339(self.since_ns),
        }


@dataclass(frozen=True, slots=True)
class Undecided:
    """A message that waits for the type of the fields `names`. `stamp_ns` is the time of its first reading, if it has
    none of its own; no other message of the startup has the same."""

    startup: str
    measurement: str
    topic: str
    payload: bytes
    stamp_ns: int
    names: frozenset[str] = field(default=frozenset(), compare=False)

    @property
    def size(self) -> int:
        return len(self.topic.encode()) + len(self.payload)


def newest(rows: Iterable[FieldType]) -> dict[Key, FieldType]:
    """Return the newest row of each field."""
    found: dict[Key, FieldType] = {}
    for row in rows:
        if row.key not in found or row.since_ns >= found[row.key].since_ns:
            found[row.key] = row
    return found


def types(connection: sqlite3.Connection, startup: str | None = None) -> list[FieldType]:
    """Return the rows of all startups, or of one; none where the file is older than this table."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'types'").fetchone():
        return []
    rows = connection.execute("SELECT * FROM types WHERE ?1 IS NULL OR startup = ?1", (startup,))
    return [FieldType(*row) for row in rows]


def keep(connection: sqlite3.Connection, several: Iterable[FieldType]) -> None:
    """Write rows, each in the place of the older one of its field."""
    rows = [(one.startup, one.measurement, one.field, one.type, one.device, one.since_ns) for one in several]
    connection.executemany("INSERT OR REPLACE INTO types VALUES (?, ?, ?, ?, ?, ?)", rows)


def undecided(connection: sqlite3.Connection) -> list[Undecided]:
    """Return the messages that wait, the oldest first."""
    rows = connection.execute("SELECT startup, measurement, topic, payload, stamp_ns FROM undecided ORDER BY stamp_ns")
    return [Undecided(*row) for row in rows]


def put(connection: sqlite3.Connection, waiting: Sequence[Undecided]) -> None:
    """Write messages that wait from now on."""
    rows = [(one.startup, one.stamp_ns, one.measurement, one.topic, one.payload) for one in waiting]
    connection.executemany("INSERT OR REPLACE INTO undecided VALUES (?, ?, ?, ?, ?)", rows)


def remove(connection: sqlite3.Connection, decided: Sequence[Undecided]) -> None:
    """Remove messages that wait no more; runs with what became of them."""
    rows = [(one.startup, one.stamp_ns) for one in decided]
    connection.executemany("DELETE FROM undecided WHERE startup = ? AND stamp_ns = ?", rows)


def by_field(rows: Iterable[FieldType]) -> dict[Key, FieldType]:
    """Return the types that hold: the newest of each field, without those that are forgotten."""
    return {key: row for key, row in newest(rows).items() if row.type}
