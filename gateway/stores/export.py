"""A startup's data as files that anybody can read: compressed CSV and line protocol, one file per measurement."""

from __future__ import annotations

import asyncio
import gzip
import shutil
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from gateway.config import Startup
from gateway.errors import ExportFailed
from gateway.line_protocol import encode
from gateway.state import private_files
from gateway.stores.contract import Query, Row, Store
from gateway.stores.tabular import columns, csv_lines, csv_table

UNFINISHED = ".unfinished"
NOTHING = "no-readings.txt"
EVERYTHING_FROM, EVERYTHING_TO = -(1 << 62), 1 << 62


@dataclass(frozen=True, slots=True)
class Exported:
    """Files of an export."""

    directory: Path
    files: tuple[Path, ...]
    readings: int


async def export(startup: Startup, store: Store, directory: Path) -> Exported:
    """Write `MEASUREMENT.csv.gz` and `MEASUREMENT.lp.gz` for everything of a startup; a chunk in memory at a time.

    The files appear when all are complete and on disk. Until then they are in `.unfinished`, which the next try
    deletes. Where there are no readings, `no-readings.txt` says so.

    Raises:
        ExportFailed: the directory is not empty, or cannot be written.
        StoreUnreadable: the store shows no readings, though there may be some.
        StoreUnavailable: the store cannot be read.
    """
    try:
        unfinished = await asyncio.to_thread(_make_empty, directory)
        readings = 0
        measurements = await store.measurements(startup.slug)
        if not measurements:
            await store.check_readable(startup.slug)
        for measurement in measurements:
            readings += await _export_one(startup, store, measurement, unfinished)
        files = await asyncio.to_thread(_finish, unfinished, directory)
    except OSError as error:
        raise ExportFailed(f"{directory}: the export cannot be written; {error.strerror}") from error
    return Exported(directory, files, readings)


def is_exported(startup: Startup, directory: Path) -> bool:
    """Return whether the directory has a complete export that was made after the startup's last day."""
    if startup.ends_ns is None or not directory.is_dir() or (directory / UNFINISHED).exists():
        return False
    return any(directory.iterdir()) and directory.stat().st_mtime_ns >= startup.ends_ns


def expect_room(directory: Path) -> None:
    """Check that a directory is free for an export.

    Raises:
        ExportFailed: it has files in it, or cannot be read.
    """
    try:
        held = {path.name for path in directory.iterdir()} if directory.exists() else set()
    except OSError as error:
        raise ExportFailed(f"{directory}: the export cannot be written; {error.strerror}") from error
    if held - {UNFINISHED}:
        raise ExportFailed(f"{directory}: expected an empty directory for the export; it has files in it")


def _make_empty(directory: Path) -> Path:
    expect_room(directory)
    unfinished = directory / UNFINISHED
    if unfinished.exists():
        shutil.rmtree(unfinished)
    private_files.make_directory(unfinished)
    return unfinished


def _finish(unfinished: Path, directory: Path) -> tuple[Path, ...]:
    """Put the files in place, and on disk: what was exported may be deleted from the store next."""
    complete = sorted(unfinished.iterdir())
    for file in complete:
        private_files.sync(file)
    files = tuple(file.rename(directory / file.name) for file in complete)
    if not files:
        private_files.write(directory / NOTHING, "There were no readings.\n")
    private_files.sync(directory)  # before there is no sign left that it was not complete
    unfinished.rmdir()
    private_files.sync(directory)
    return files


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
    """Both files of a measurement. Compression takes time: call its methods in a thread."""

    def __init__(self, directory: Path, startup: str, measurement: str, names: Sequence[str]) -> None:
        self._startup = startup
        self._measurement = measurement
        self._names = names
        self._lines = _compressed(directory / f"{measurement}.lp.gz")
        self._table = _compressed(directory / f"{measurement}.csv.gz")
        self._table.write(csv_lines([["time", *names]]))

    def write(self, rows: Sequence[Row]) -> None:
        readings = (row.reading(self._startup, self._measurement) for row in rows)
        self._lines.write("".join(f"{encode(reading)}\n" for reading in readings).encode())
        self._table.write(csv_table(rows, self._names))

    def close(self) -> None:
        self._lines.close()
        self._table.close()


def _compressed(path: Path) -> gzip.GzipFile:
    private_files.make_file(path)
    return gzip.open(path, "wb")
