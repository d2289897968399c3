"""A startup's data as files that anybody can read: CSV and line protocol, compressed, a file a measurement."""

from __future__ import annotations

import asyncio
import gzip
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
        StoreUnavailable: the store cannot be read.
    """
    try:
        await asyncio.to_thread(_make_empty, directory)
        files: list[Path] = []
        readings = 0
        for measurement in await store.measurements(startup.slug):
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
    readings = 0
    with (
        gzip.open(directory / f"{measurement}.lp.gz", "wt", encoding="utf-8") as lines,
        gzip.open(directory / f"{measurement}.csv.gz", "wb") as table,
    ):
        async with aclosing(store.history(startup.slug, query)) as chunks:
            names = await columns(startup, store, measurement)
            table.write(csv_lines([["time", *names]]))
            async for chunk in chunks:
                lines.writelines(f"{_line(startup.slug, measurement, row)}\n" for row in chunk)
                table.write(csv_table(chunk, names))
                readings += len(chunk)
    return readings


def _line(startup: str, measurement: str, row: Row) -> str:
    tags = {name: value for name, value in row.tags.items() if name != "device"}
    return encode(Reading(startup, row.tags.get("device", ""), measurement, tags, row.fields, row.time_ns))
