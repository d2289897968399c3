"""Lines into the embedded store's file, one transaction per batch. Blocking: `stores.sqlite` calls it in a thread.

The lines of a batch are grouped by shape (measurement, names and types of the fields) and written by statements of
hundreds of rows. sqlite3 releases the interpreter at every statement and, while the event loop computes, may wait 5 ms
to get it back: beside a busy loop, a statement for each row would write some hundred lines a second.
"""

# ruff: noqa: S608  # tables and columns are named by ids of the catalogue; all else is bound

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from sys import getsizeof
from typing import NamedTuple

from gateway.errors import StoreRefused
from gateway.stores import sqlite_schema as schema
from gateway.stores.line_parser import parse, parse_name, parse_series

ROWS = 500
VALUES = 5_000
"""Values of one statement: SQLite takes about 110 bytes for each while it keeps the statement."""
SERIES_KEPT = 65_536
SHAPES = 1 << 20
"""Bytes of the shapes that are remembered: devices choose the names of members that no rule names."""
FIELDS = 1000
"""Fields of a measurement. SQLite's tables end at 2000 columns, and each new one takes longer to add."""

TYPES: dict[type, str] = {float: "float", int: "int", bool: "bool", str: "string"}


class _Series(NamedTuple):
    id: int
    measurement_id: int


class _Shape(NamedTuple):
    measurement_id: int
    names: tuple[bytes, ...]
    types: tuple[type, ...]


class Writer:
    """Sole connection that writes a startup's file. It remembers only what was committed."""

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            sqlite3.Error: it cannot be opened.
            StoreUnavailable: a later version of the gateway has written it.
        """
        self._connection = schema.open_for_writing(path)
        self._series: dict[bytes, _Series] = {}
        self._columns: dict[_Shape, tuple[str, ...]] = {}
        self._shapes_size = 0

    def expire(self, before_ns: int) -> int:
        """Delete readings older than `before_ns`, one transaction per series, so that a write never waits long; return
        how many there were."""
        deleted = 0
        for series, measurement in self._connection.execute("SELECT id, measurement FROM series").fetchall():
            deleted += self._connection.execute(
                f"DELETE FROM {schema.table(measurement)} WHERE series = ? AND time < ?", (series, before_ns)
            ).rowcount
        return deleted

    def oldest(self) -> int | None:
        """Return the time of the oldest reading."""
        found = self._connection.execute("SELECT id, measurement FROM series").fetchall()
        oldest = "SELECT min(time) FROM {} WHERE series = ?"
        rows = [
            self._connection.execute(oldest.format(schema.table(table)), (series,)).fetchone()
            for series, table in found
        ]
        return min((time_ns for (time_ns,) in rows if time_ns is not None), default=None)

    def close(self) -> None:
        """Close the file; what was committed stays."""
        self._connection.close()

    def write(self, lines: Sequence[bytes]) -> None:
        """Write all lines, or none: they are on the disk when this returns.

        Raises:
            sqlite3.Error: the file cannot be written.
            StoreRefused: a line is not line protocol, or a value has another type than its field.
        """
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            self._write(lines)
            self._connection.execute("COMMIT")
        except (ValueError, OverflowError) as error:
            self._roll_back()
            raise StoreRefused(f"a line cannot be stored: {error}") from None
        except BaseException:
            self._roll_back()
            raise

    def _write(self, lines: Sequence[bytes]) -> None:
        gathered: dict[_Shape, list[object]] = {}
        points: set[tuple[int, int]] = set()
        for text in lines:
            line = parse(text)
            series = self._series.get(line.series) or self._find_series(line.series)
            point = (series.id, line.time_ns)
            if point in points:  # its lines may differ in shape, and the later one must win
                self._insert(gathered)
                gathered, points = {}, set()
            points.add(point)
            shape = _Shape(series.measurement_id, line.names, tuple(map(type, line.values)))
            gathered.setdefault(shape, []).extend((*point, *line.values))
        self._insert(gathered)

    def _insert(self, gathered: dict[_Shape, list[object]]) -> None:
        for shape, values in gathered.items():
            columns = self._columns.get(shape) or self._find_columns(shape)
            width = 2 + len(columns)
            step = width * max(1, min(ROWS, VALUES // width))
            for start in range(0, len(values), step):
                some = values[start : start + step]
                self._connection.execute(_upsert(shape.measurement_id, columns, len(some) // width), some)

    def _find_series(self, key: bytes) -> _Series:
        name, tags = parse_series(key)
        measurement_id = self._find_measurement(name)
        text = json.dumps(tags, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        found = self._connection.execute(
            "SELECT id FROM series WHERE measurement = ? AND tags = ?", (measurement_id, text)
        ).fetchone()
        series_id = (
            found[0] if found else schema.create_series(self._connection, measurement_id, tags.get("device", ""), text)
        )
        if len(self._series) >= SERIES_KEPT:
            self._series.clear()
        return self._series.setdefault(key, _Series(series_id, measurement_id))

    def _find_measurement(self, name: str) -> int:
        found = self._connection.execute("SELECT id FROM measurements WHERE name = ?", (name,)).fetchone()
        return found[0] if found else schema.create_measurement(self._connection, name)

    def _find_columns(self, shape: _Shape) -> tuple[str, ...]:
        columns = tuple(
            schema.column(self._find_field(shape.measurement_id, parse_name(name), TYPES[kind]))
            for name, kind in zip(shape.names, shape.types, strict=True)
        )
        size = sum(map(getsizeof, (shape.names, shape.types, columns, *shape.names, *columns)))
        if self._shapes_size + size > SHAPES:
            self._forget_shapes()
        self._shapes_size += size
        return self._columns.setdefault(shape, columns)

    def _forget_shapes(self) -> None:
        self._columns.clear()
        self._shapes_size = 0

    def _find_field(self, measurement_id: int, name: str, type_: str) -> int:
        found = self._connection.execute(
            "SELECT id, type FROM fields WHERE measurement = ? AND name = ?", (measurement_id, name)
        ).fetchone()
        if found is None:
            return self._create_field(measurement_id, name, type_)
        field_id, stored = found
        if type_ != stored:
            raise StoreRefused(
                f"type conflict: field {name!r} of measurement {self._name(measurement_id)!r} is stored as {stored},"
                f" got {type_}"
            )
        return int(field_id)

    def _create_field(self, measurement_id: int, name: str, type_: str) -> int:
        (count,) = self._connection.execute(
            "SELECT count(*) FROM fields WHERE measurement = ?", (measurement_id,)
        ).fetchone()
        if count >= FIELDS:
            raise StoreRefused(
                f"measurement {self._name(measurement_id)!r} has {count} fields, as many as the embedded store holds;"
                f" {name!r} would be one more"
            )
        return schema.create_field(self._connection, measurement_id, name, type_)

    def _name(self, measurement_id: int) -> str:
        (name,) = self._connection.execute("SELECT name FROM measurements WHERE id = ?", (measurement_id,)).fetchone()
        return str(name)

    def _roll_back(self) -> None:
        self._series.clear()
        self._forget_shapes()
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")


def _upsert(measurement_id: int, columns: tuple[str, ...], rows: int) -> str:
    row = f"({', '.join('?' * (2 + len(columns)))})"
    merged = ", ".join(f"{column} = excluded.{column}" for column in columns)
    return (
        f"INSERT INTO {schema.table(measurement_id)} (series, time, {', '.join(columns)})"
        f" VALUES {', '.join([row] * rows)} ON CONFLICT (series, time) DO UPDATE SET {merged}"
    )
