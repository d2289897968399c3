"""File of the embedded store: one SQLite database per startup, `{slug}.db`.

    measurements (id, name)
    fields       (id, measurement, name, type)         type: float | int | bool | string
    series       (id, measurement, device, tags)       tags: JSON, sorted by key, the device among them
    m1           (series, time, f1, f2, …)             one table per measurement, one column per field

Tables and columns are named by the ids of their measurement and field: for SQLite `T` and `t` are one column, for
InfluxDB two. `m…` is clustered by (series, time), so that a range of one series lies together on the disk. Its columns
have no declared type, so that each value comes back exactly as it was bound: floats as 8 bytes, integers as up to 8,
booleans as 0 or 1. `time` is UTC in ns since 1970.

In every such file: WAL, `synchronous=FULL`: what is committed survives a power cut.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from gateway.errors import StoreUnavailable
from gateway.state import private_files

BUSY_SECONDS = 5.0
STATEMENTS_KEPT = 8
"""Statements that a connection keeps prepared: one that writes many rows takes up to half a megabyte."""
FORMAT = 1

_CREATE = f"""
BEGIN IMMEDIATE;
CREATE TABLE measurements (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE fields (
    id INTEGER PRIMARY KEY,
    measurement INTEGER NOT NULL REFERENCES measurements,
    name TEXT NOT NULL,
    type TEXT NOT NULL,
    UNIQUE (measurement, name)
);
CREATE TABLE series (
    id INTEGER PRIMARY KEY,
    measurement INTEGER NOT NULL REFERENCES measurements,
    device TEXT NOT NULL,
    tags TEXT NOT NULL,
    UNIQUE (measurement, tags)
);
CREATE INDEX series_by_device ON series (measurement, device);
PRAGMA user_version = {FORMAT};
COMMIT;
"""


def table(measurement_id: int) -> str:
    """Name the table of a measurement's readings."""
    return f"m{measurement_id}"


def column(field_id: int) -> str:
    """Name the column of a field's values."""
    return f"f{field_id}"


def open_for_writing(path: Path) -> sqlite3.Connection:
    """Open a startup's file; create it if it does not exist.

    Raises:
        sqlite3.Error: it cannot be opened, or is not a database.
        StoreUnavailable: a later version of the gateway has written it.
    """
    private_files.make_file(path)
    connection = sqlite3.connect(
        path,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=STATEMENTS_KEPT,
    )
    try:
        _prepare(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    version = _version(connection)
    if version > FORMAT:
        raise StoreUnavailable(f"{path}: format {version} is newer than {FORMAT}, which this gateway knows: upgrade it")
    if version == 0:
        connection.executescript(_CREATE)


def open_for_reading(path: Path) -> sqlite3.Connection | None:
    """Return a connection that cannot change the file; None where nothing was ever written.

    Raises:
        sqlite3.Error: it cannot be opened, or is not a database.
    """
    if not path.exists():
        return None
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=STATEMENTS_KEPT,
    )
    try:
        connection.execute("PRAGMA temp_store = MEMORY")
        written = _version(connection) > 0
    except sqlite3.OperationalError as error:
        connection.close()
        # A crash while the file was created, before it had a write-ahead log: the next write rolls that back.
        if error.sqlite_errorcode == sqlite3.SQLITE_READONLY_ROLLBACK:
            return None
        raise
    except BaseException:
        connection.close()
        raise
    if not written:
        connection.close()
    return connection if written else None


def create_measurement(connection: sqlite3.Connection, name: str) -> int:
    """Add a measurement and its table; return its id."""
    measurement_id = _inserted(connection, "INSERT INTO measurements (name) VALUES (?)", (name,))
    connection.execute(
        f"CREATE TABLE {table(measurement_id)} (series INTEGER NOT NULL, time INTEGER NOT NULL,"
        " PRIMARY KEY (series, time)) WITHOUT ROWID"
    )
    return measurement_id


def create_field(connection: sqlite3.Connection, measurement_id: int, name: str, type_: str) -> int:
    """Add a field and its column; return its id."""
    field_id = _inserted(
        connection,
        "INSERT INTO fields (measurement, name, type) VALUES (?, ?, ?)",
        (measurement_id, name, type_),
    )
    connection.execute(f"ALTER TABLE {table(measurement_id)} ADD COLUMN {column(field_id)}")
    return field_id


def create_series(connection: sqlite3.Connection, measurement_id: int, device: str, tags: str) -> int:
    """Add a series; return its id."""
    return _inserted(
        connection,
        "INSERT INTO series (measurement, device, tags) VALUES (?, ?, ?)",
        (measurement_id, device, tags),
    )


def _inserted(connection: sqlite3.Connection, statement: str, values: tuple[int | str, ...]) -> int:
    (row_id,) = connection.execute(f"{statement} RETURNING id", values).fetchone()
    return int(row_id)


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)
