"""A startup's data as files that anybody can read: CSV and line protocol, compressed, a file a measurement."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from gateway.config import Startup
from gateway.errors import GatewayError
from gateway.feeds.history import columns, csv_lines, csv_table
from gateway.line_protocol import encode
from gateway.model import Reading
from gateway.stores.contract import Query, Row, Store

EVERYTHING_FROM, EVERYTHING_TO = -(1 << 62), 1 << 62


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote."""

    directory: Path
    files: tuple[Path, ...]
    readings: int


async def export(startup: Startup, store: Store, directory: Path) -> Exported:
    """Write `MEASUREMENT.csv.gz` and `MEASUREMENT.lp.gz` for everything of a startup; a chunk in memory at a time.

    Raises:
        GatewayError: the directory is not empty, or cannot be written.
        StoreUnreadable: it shows nothing, though there may be something.
        StoreUnavailable: the store cannot be read.
    """
    try:
        await asyncio.to_thread(_make_empty, directory)
        files: list[Path] = []
        readings = 0
        measurements = await store.measurements(startup.slug)
        if not measurements:
            await store.check_readable(startup.slug)
        for measurement in measurements:
            readings += await _export_one(startup, store, measurement, directory)
            files += [directory / f"{measurement}.csv.gz", directory / f"{measurement}.lp.gz"]
    except OSError as error:
        raise GatewayError(f"{directory}: the export cannot be written; {error.strerror}") from error
    return Exported(directory, tuple(files), readings)


def _make_empty(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise GatewayError(f"{directory}: expected an empty directory for the export; it has files in it")


async def _export_one(startup: Startup, store: Store, measurement: str, directory: Path) -> int:
    query = Query(measurement, EVERYTHING_FROM, EVERYTHING_TO)
    names = await columns(startup, store, measurement)
    files = await asyncio.to_thread(_Files, directory, startup.slug, measurement, names)
    readings = 0
    try:
        async with aclosing(store.history(startup.slug, query)) as chunks:
            async for chunk in chunks:
                await asyncio.to_thread(files.write, chunk)
                readings += len(chunk)
    finally:
        await asyncio.to_thread(files.close)
    return readings


class _Files:
    """The two files of a measurement. Compressing takes time: its methods run in a thread."""

    def __init__(self, directory: Path, startup: str, measurement: str, names: Sequence[str]) -> None:
        self._startup = startup
        self._measurement = measurement
        self._names = names
        self._lines = gzip.open(directory / f"{measurement}.lp.gz", "wb")  # noqa: SIM115  # `close` closes it
        self._table = gzip.open(directory / f"{measurement}.csv.gz", "wb")  # noqa: SIM115
        self._table.write(csv_lines([["time", *names]]))

    def write(self, rows: Sequence[Row]) -> None:
        self._lines.write("".join(f"{self._line(row)}\n" for row in rows).encode())
        self._table.write(csv_table(rows, self._names))

    def close(self) -> None:
        self._lines.close()
        self._table.close()

    def _line(self, row: Row) -> str:
        tags = {name: value for name, value in row.tags.items() if name != "device"}
        device = row.tags.get("device", "")
        return encode(Reading(self._startup, device, self._measurement, tags, row.fields, row.time_ns))
