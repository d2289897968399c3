"""Queries to the embedded store's file. Blocking: `stores.sqlite` calls them in a thread.

`history` and `latest` return what SQLite does; `rows` and `readings` turn that into points, which computes in Python.
Every part of an answer is a query of its own that begins where the last one ended: a client that reads slowly must not
hold a snapshot open, behind which the write-ahead log would grow.
"""

# ruff: noqa: S608  # tables and columns are named by ids of the catalogue; all else is bound

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from gateway.model import FieldValue, Reading
from gateway.stores import sqlite_schema as schema
from gateway.stores.contract import CHUNK_BYTES, Columns, Query, Row, texts

CHUNK = 500
"""Rows of one part. A chunk has at least as many (except the last) and fewer than twice as many."""
WINDOWS = 500
TEXT_WINDOWS = 50
"""Windows of one statement where there are strings: each may be long."""
LOWEST, HIGHEST = -(1 << 63), (1 << 63) - 1
LONGEST = 1 << 62

_Stored = float | str | None


class _Field(NamedTuple):
    name: str
    column: str
    type: str

    @property
    def is_number(self) -> bool:
        return self.type in ("float", "int")


class _Series(NamedTuple):
    """A series; `tags` is JSON."""

    id: int
    tags: str


@dataclass(frozen=True, slots=True)
class _Measurement:
    id: int
    name: str
    fields: tuple[_Field, ...]

    @property
    def table(self) -> str:
        return schema.table(self.id)

    @property
    def has_strings(self) -> bool:
        return any(field.type == "string" for field in self.fields)

    def values(self, row: Iterable[_Stored]) -> dict[str, FieldValue]:
        """Return the fields that have a value, by name, in their own type."""
        return {
            field.name: bool(value) if field.type == "bool" else value
            for field, value in zip(self.fields, row, strict=True)
            if value is not None
        }


class Part(NamedTuple):
    """Some points of a measurement as SQLite returns them: times and values of one series or, without `tags`, the tags,
    time and values of several."""

    measurement: _Measurement
    tags: str | None
    found: Sequence[Any]
    size: int
    """Characters of the strings in them."""


def measurements(connection: sqlite3.Connection) -> list[str]:
    """Return the names of all measurements, sorted."""
    return [name for (name,) in connection.execute("SELECT name FROM measurements ORDER BY name")]


def columns(connection: sqlite3.Connection, measurement: str) -> Columns:
    """Return the names of the tags and fields of a measurement."""
    tags = connection.execute(
        "SELECT DISTINCT key FROM measurements m JOIN series s ON s.measurement = m.id, json_each(s.tags)"
        " WHERE m.name = ? ORDER BY key",
        (measurement,),
    )
    fields = connection.execute(
        "SELECT f.name FROM measurements m JOIN fields f ON f.measurement = m.id WHERE m.name = ? ORDER BY f.name",
        (measurement,),
    )
    return Columns(tuple(name for (name,) in tags), tuple(name for (name,) in fields))


def history(connection: sqlite3.Connection, query: Query) -> Iterator[list[Part]]:
    """Yield what is found by a query, in chunks."""
    found = connection.execute("SELECT id, name FROM measurements WHERE name = ?", (query.measurement,)).fetchone()
    if found is None:
        return
    measurement = _measurement(connection, *found)
    read = _raw if query.every_ns is None else _downsampled
    chunk: list[Part] = []
    rows = size = 0
    for series in _series(connection, measurement, query.device):
        for part in read(connection, measurement, series, query):
            chunk.append(part)
            rows += len(part.found)
            size += part.size
            if rows >= CHUNK or size >= CHUNK_BYTES:
                yield chunk
                chunk, rows, size = [], 0, 0
    if chunk:
        yield chunk


def latest(connection: sqlite3.Connection) -> Iterator[list[Part]]:
    """Yield the newest point of every series, in chunks."""
    for found in connection.execute("SELECT id, name FROM measurements ORDER BY name").fetchall():
        measurement = _measurement(connection, *found)
        statement = _latest_statement(measurement)
        after = ""
        while (points := _some(connection.execute(statement, (measurement.id, after)), measurement.has_strings)).found:
            yield [Part(measurement, None, points.found, points.size)]
            after = points.found[-1][0]


def rows(parts: Iterable[Part]) -> list[Row]:
    """Return the rows of a history, without those whose only fields are newer than the query."""
    return [row for part in parts for row in _rows(part) if row.fields]


def _rows(part: Part) -> Iterator[Row]:
    tags = json.loads(part.tags or "{}")
    return (Row(time_ns, tags, part.measurement.values(row)) for time_ns, *row in part.found)


def readings(startup: str, parts: Iterable[Part]) -> list[Reading]:
    """Return the readings of what `latest` found."""
    return [
        Row(time_ns, json.loads(tags), part.measurement.values(row)).reading(startup, part.measurement.name)
        for part in parts
        for tags, time_ns, *row in part.found
    ]


def _measurement(connection: sqlite3.Connection, measurement_id: int, name: str) -> _Measurement:
    found = connection.execute("SELECT name, id, type FROM fields WHERE measurement = ? ORDER BY id", (measurement_id,))
    fields = tuple(_Field(field, schema.column(field_id), kind) for field, field_id, kind in found)
    return _Measurement(measurement_id, name, fields)


def _series(connection: sqlite3.Connection, measurement: _Measurement, device: str | None) -> list[_Series]:
    found = connection.execute(
        "SELECT id, tags FROM series WHERE measurement = ?1 AND (?2 IS NULL OR device = ?2) ORDER BY tags",
        (measurement.id, device),
    )
    return [_Series(*row) for row in found.fetchall()]


def _raw(connection: sqlite3.Connection, measurement: _Measurement, series: _Series, query: Query) -> Iterator[Part]:
    columns = ", ".join(field.column for field in measurement.fields)
    statement = (
        f"SELECT time, {columns} FROM {measurement.table}"
        f" WHERE series = ? AND time >= ? AND time < ? ORDER BY time LIMIT {CHUNK}"
    )
    start, stop = _bounds(query)
    while (points := _some(connection.execute(statement, (series.id, start, stop)), measurement.has_strings)).found:
        yield Part(measurement, series.tags, points.found, points.size)
        start = points.found[-1][0] + 1


class _Points(NamedTuple):
    found: list[Any]
    size: int


def _some(cursor: sqlite3.Cursor, has_strings: bool) -> _Points:
    """Return the first rows of an answer: those that a chunk holds. Without strings they are few bytes each."""
    if not has_strings:
        return _Points(cursor.fetchall(), 0)
    found: list[Any] = []
    size = 0
    for row in cursor:
        found.append(row)
        size += texts(row)
        if size >= CHUNK_BYTES:
            break
    cursor.close()
    return _Points(found, size)


def _downsampled(
    connection: sqlite3.Connection, measurement: _Measurement, series: _Series, query: Query
) -> Iterator[Part]:
    """Yield the windows, `WINDOWS` of them per statement, skipping what is empty.

    The windows are a table of their own, which SQLite walks in order: it has nothing to sort.
    """
    every = min(query.every_ns or LONGEST, LONGEST)
    start, stop = _bounds(query)
    first = f"SELECT min(time) FROM {measurement.table} WHERE series = ? AND time >= ? AND time < ?"
    statement = _windows_statement(measurement)
    bounds = {"series": series.id, "start": start, "stop": stop, "every": every}
    windows = TEXT_WINDOWS if measurement.has_strings else WINDOWS
    at = start
    while True:
        (time_ns,) = connection.execute(first, (series.id, at, stop)).fetchone()
        if time_ns is None:
            return
        window = time_ns - time_ns % every
        _lay_windows(connection, window, every, stop, windows)
        found = connection.execute(statement, bounds).fetchall()
        yield Part(measurement, series.tags, found, sum(map(texts, found)) if measurement.has_strings else 0)
        at = window + windows * every
        if at >= stop:
            return


def _lay_windows(connection: sqlite3.Connection, first: int, every: int, stop: int, windows: int) -> None:
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS windows (start INTEGER PRIMARY KEY)")
    connection.execute("DELETE FROM windows")
    connection.execute(
        "WITH RECURSIVE next (start) AS"
        " (SELECT ?1 UNION ALL SELECT start + ?2 FROM next WHERE start + ?2 < ?3"
        f" LIMIT {windows}) INSERT INTO windows SELECT start FROM next",
        (first, every, stop),
    )


def _windows_statement(measurement: _Measurement) -> str:
    """Return a statement with one row for each window that has readings. `ORDER BY +start` has all rows ready before
    the first is fetched: SQLite computes in one step, during which the interpreter is free for the event loop."""
    here = "series = :series AND time >= max(start, :start) AND time < min(start + :every, :stop)"
    means = {field.column: f"avg({field.column})" for field in measurement.fields if field.is_number}
    values = [
        means.get(column)
        or f"(SELECT {column} FROM {measurement.table} WHERE {here} AND {column} IS NOT NULL"
        " ORDER BY time DESC LIMIT 1)"
        for column in (field.column for field in measurement.fields)
    ]
    return (
        f"SELECT start, {', '.join(values)} FROM windows CROSS JOIN {measurement.table} ON {here}"
        " GROUP BY start ORDER BY +start"
    )


def _latest_statement(measurement: _Measurement) -> str:
    columns = ", ".join(f"m.{field.column}" for field in measurement.fields)
    return (
        f"SELECT s.tags, m.time, {columns} FROM series s CROSS JOIN {measurement.table} m ON m.series = s.id"
        f" AND m.time = (SELECT max(time) FROM {measurement.table} WHERE series = s.id)"
        f" WHERE s.measurement = ? AND s.tags > ? ORDER BY s.tags LIMIT {CHUNK}"
    )


def _bounds(query: Query) -> tuple[int, int]:
    """Return the range, cut to 64 bits."""
    return max(query.start_ns, LOWEST), min(query.stop_ns, HIGHEST)
