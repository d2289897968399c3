"""Newest readings of a device, read from a store without the gateway."""

from __future__ import annotations

import http.client
import json
import sqlite3
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlencode, urlsplit

from bench.shape import MEASUREMENT


class Look(Protocol):
    """Reads the sequence numbers that have arrived since the last call. `every` is the pause between calls, in ns."""

    every: int

    def __call__(self) -> list[int]: ...


def look(spec: dict[str, Any], device: str) -> Look:
    """Return the reader for what `stores.Store.looked_at` returns."""
    return InSqlite(spec["sqlite"], device) if "sqlite" in spec else InInfluxDB(spec, device)


class InSqlite:
    """Readings of the embedded store."""

    every = 5_000_000

    def __init__(self, path: str, device: str) -> None:
        self._path = Path(path)
        self._device = device
        self._after = 0
        self._found: tuple[sqlite3.Connection, str, int] | None = None

    def __call__(self) -> list[int]:
        self._found = self._found or self._series()
        if self._found is None:
            return []
        connection, query, series = self._found
        rows = connection.execute(query, (series, self._after)).fetchall()
        self._after = rows[-1][0] if rows else self._after
        return [int(sequence) for _, sequence in rows]

    def _series(self) -> tuple[sqlite3.Connection, str, int] | None:
        """Return the database and series of the device's readings; None while there are none."""
        if not self._path.exists():
            return None
        connection = sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True, timeout=10)
        series = connection.execute("SELECT id FROM series WHERE device = ?", (self._device,)).fetchone()
        if series is None:
            connection.close()
            return None
        (field,) = connection.execute("SELECT id FROM fields WHERE name = 'sequence'").fetchone()
        query = f"SELECT time, f{field} FROM m1 WHERE series = ? AND time > ? ORDER BY time"  # noqa: S608 - an id
        return connection, query, series[0]


class InInfluxDB:
    """Readings of an InfluxDB, queried in InfluxQL."""

    every = 20_000_000

    def __init__(self, spec: dict[str, Any], device: str) -> None:
        self._spec = spec
        self._device = device
        self._after = 0
        self._connection = http.client.HTTPConnection(urlsplit(spec["influxdb"]).netloc, timeout=30)

    def __call__(self) -> list[int]:
        where = f"device = '{self._device}' AND time > {self._after}"
        query = f"SELECT sequence FROM {MEASUREMENT} WHERE {where}"  # noqa: S608 - our own words
        asked = urlencode({"db": self._spec["database"], "q": query, "epoch": "ns"})
        self._connection.request("GET", f"/query?{asked}", headers=self._spec["headers"])
        result = json.loads(self._connection.getresponse().read())["results"][0]
        rows = [row for series in result.get("series", ()) for row in series["values"]]
        self._after = rows[-1][0] if rows else self._after
        return [int(sequence) for _, sequence in rows]
