"""Damaged rows of the state database: set aside, counted and reported, so that the others go on.

A disk, or a hand, may change any byte. What SQLite itself cannot read is reported by `gateway.state.mark` at the start.
A row that SQLite reads but that makes no sense goes into the table `damaged` with its bytes, and leaves its own:

- Readings in such a row were accepted and can never be stored: they count as refused, and the ledger balances. Where
  the row no longer says whose they are, they count under `_unrouted`.
- Damaged counts of the ledger and of the dead letters become the number that SQLite reads in them, which is 0 for most.
- All of it is logged as an error, and `gateway_damaged_rows` counts it.

Invariant: the data of the rows takes at most `MOST_BYTES`; of further ones only the fact is kept.
"""

from __future__ import annotations

import json
import sqlite3
import time

from gateway.logs import get_logger
from gateway.model import UNROUTED, Counts
from gateway.state import ledger

MOST_BYTES = 64 << 20
_TABLE = """
CREATE TABLE IF NOT EXISTS damaged (id INTEGER PRIMARY KEY AUTOINCREMENT, at_ns INTEGER NOT NULL, origin TEXT NOT NULL,
    startup TEXT NOT NULL, readings INTEGER NOT NULL, problem TEXT NOT NULL, data BLOB NOT NULL)
"""
_INSERT = """
INSERT INTO damaged (at_ns, origin, startup, readings, problem, data)
SELECT ?1, ?2, ?3, ?4, ?5, CASE WHEN (SELECT coalesce(sum(length(data)), 0) FROM damaged) + length(?6) <= ?7
    THEN ?6 ELSE x'' END
"""
_SOUND = {
    "journal": "typeof(startup) = 'text' AND startup NOT GLOB '*[^a-z0-9-]*' AND typeof(readings) = 'integer' "
    "AND readings > 0 AND typeof(lines) = 'blob' AND length(lines) > 0",
    "dead_letters": "typeof(startup) = 'text' AND typeof(device) = 'text' AND typeof(topic) = 'text' "
    "AND typeof(arrived_ns) = 'integer' AND typeof(payload) = 'blob' AND typeof(cut) = 'integer' "
    "AND typeof(size) = 'integer'",
    "devices": "typeof(startup) = 'text' AND typeof(device) = 'text' AND typeof(first_ns) = 'integer' "
    "AND typeof(last_ns) = 'integer' AND typeof(accepted) = 'integer' AND typeof(rejected) = 'integer' "
    "AND typeof(rejected_ns) = 'integer'",
    "series": "typeof(startup) = 'text' AND typeof(key) = 'text'",
    "sequences": "typeof(startup) = 'text' AND typeof(device) = 'text' AND typeof(measurement) = 'text' "
    "AND typeof(kept) = 'blob' AND CASE WHEN json_valid(CAST(kept AS TEXT)) THEN "
    "json_type(CAST(kept AS TEXT), '$.gaps') = 'array' AND json_type(CAST(kept AS TEXT), '$.received') = 'integer' "
    "AND json_type(CAST(kept AS TEXT), '$.last') IN ('integer', 'null') END",
    "types": "typeof(startup) = 'text' AND typeof(measurement) = 'text' AND typeof(field) = 'text' "
    "AND type IN ('', 'float', 'int', 'bool', 'string') AND typeof(device) = 'text' AND typeof(since_ns) = 'integer'",
    "undecided": "typeof(startup) = 'text' AND typeof(stamp_ns) = 'integer' AND typeof(measurement) = 'text' "
    "AND typeof(topic) = 'text' AND typeof(payload) = 'blob'",
}
"""Conditions that the rows of a table meet."""
_COUNT_LETTERS = (
    """
    UPDATE letter_totals SET (letters, bytes) = (SELECT count(*), coalesce(sum(size), 0) FROM dead_letters AS one
        WHERE one.startup = letter_totals.startup AND one.topic <> '')
    """,
    """
    UPDATE refused_totals SET (letters, bytes) = (SELECT count(*), coalesce(sum(size), 0) FROM dead_letters AS one
        WHERE one.startup = refused_totals.startup AND one.topic = '')
    """,
)
"""Count the dead letters again, where some were set aside: what is counted and not there could never be dropped."""
_COUNTS = {
    "ledger": ("received", "accepted", "rejected", "stored", "refused"),
    "letter_totals": ("letters", "bytes", "dropped"),
    "refused_totals": ("letters", "bytes"),
}

log = get_logger(__name__)


def sift(connection: sqlite3.Connection) -> None:
    """Set aside, at the start, the rows that make no sense."""
    connection.execute(_TABLE)
    connection.execute("BEGIN IMMEDIATE")
    try:
        _count_again(connection)
        there = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        for table in sorted(_SOUND.keys() & there):
            if _sift(connection, table, _SOUND[table]) and table == "dead_letters":
                for statement in _COUNT_LETTERS:
                    connection.execute(statement)
        for table, columns in _COUNTS.items():
            for column in columns:
                _mend(connection, table, column)
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def set_aside(
    connection: sqlite3.Connection,
    origin: str,
    problem: str,
    data: object,
    startup: str = UNROUTED,
    counts: Counts | None = None,
) -> None:
    """Keep a damaged row, and count what was in it; its own table is the caller's to clear."""
    counts = counts or Counts()
    blob = data if isinstance(data, bytes) else json.dumps(data, default=repr).encode()
    values = (time.time_ns(), origin, startup, counts.refused, problem, blob, MOST_BYTES)
    connection.execute(_INSERT, values)
    if counts != Counts():
        ledger.add(connection, {startup: counts})
    log.error(
        "damaged row set aside",
        table=origin,
        startup=startup,
        readings=counts.refused,
        problem=problem,
        next="see the disk's health; the row is in the table `damaged` of gateway.db",
    )


def count(connection: sqlite3.Connection) -> int:
    """Return how many rows were set aside since the file was made."""
    found = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'damaged'").fetchone()
    return int(found[0]) if found else 0


def _count_again(connection: sqlite3.Connection) -> None:
    """Count the lines of rows of the journal that do not say how many they are."""
    rows = connection.execute(
        "SELECT id, startup, readings, lines FROM journal WHERE (typeof(readings) <> 'integer' OR readings < 1) "
        "AND typeof(lines) = 'blob' AND length(lines) > 0"
    )
    for ident, startup, readings, lines in rows.fetchall():
        count = lines.count(b"\0") + 1
        set_aside(connection, "journal", f"{readings!r:.100} readings are {count} lines", b"", startup)
        connection.execute("UPDATE journal SET readings = ? WHERE id = ?", (count, ident))


def _sift(connection: sqlite3.Connection, table: str, sound: str) -> int:
    """Set the damaged rows of a table aside; return how many there were."""
    rows = connection.execute(f"SELECT * FROM {table} WHERE ({sound}) IS NOT TRUE").fetchall()  # noqa: S608  # constants
    if rows:
        connection.execute(f"DELETE FROM {table} WHERE ({sound}) IS NOT TRUE")  # noqa: S608  # constants
    for row in rows:
        problem = "a value has another type than its column, or makes no sense"
        if table == "journal":
            _, _, readings, lines = row
            count = readings if isinstance(readings, int) and readings > 0 else 1
            set_aside(connection, table, problem, lines, *_owner(connection, count))
        else:
            set_aside(connection, table, problem, list(row))
    return len(rows)


def _owner(connection: sqlite3.Connection, readings: int) -> tuple[str, Counts]:
    """Return the startup that so many accepted readings are missing of, and how they count."""
    for startup, counts in ledger.balance(connection).items():
        if counts.accepted - counts.stored - counts.journaled - counts.refused == readings:
            return startup, Counts(refused=readings)
    return UNROUTED, Counts(received=readings, accepted=readings, refused=readings)


def _mend(connection: sqlite3.Connection, table: str, column: str) -> None:
    wrong = f"FROM {table} WHERE typeof({column}) <> 'integer'"
    for startup, value in connection.execute(f"SELECT startup, {column} {wrong}").fetchall():  # constants
        set_aside(connection, table, f"{column} is no number", [startup, column, value])
        connection.execute(
            f"UPDATE {table} SET {column} = CAST({column} AS INTEGER) WHERE typeof({column}) <> 'integer'"  # noqa: S608
        )
