"""Data set of `query`: readings of one startup, written by the gateway's own store and kept for the next run."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.stats import NS
from gateway.stores.sqlite import SqliteStore
from gateway.stores.sqlite_schema import FORMAT

BATCH = 20_000
DEVICES = 20
STEP_NS = 30 * NS
DAY_NS = 86_400 * NS
START_NS = 1_767_225_600 * NS
"""2026-01-01T00:00:00Z."""


@dataclass(frozen=True, slots=True)
class DataSet:
    """`readings` of `DEVICES` devices, each with one every 30 s, from `START_NS` on; two float fields."""

    readings: int
    directory: Path

    @property
    def days(self) -> int:
        """Whole days that it covers."""
        return self.readings // DEVICES * STEP_NS // DAY_NS


async def data_set(readings: int, slug: str, advance: Callable[[int], None]) -> DataSet:
    """Create it, or find it in the system's temporary directory. `advance` is called with the number of readings."""
    directory = Path(tempfile.gettempdir()) / f"gateway-bench-history-{readings}-format-{FORMAT}"
    if not directory.exists():
        making = directory.with_suffix(".making")
        shutil.rmtree(making, ignore_errors=True)
        await _make(making, readings, slug, advance)
        making.rename(directory)
    return DataSet(readings, directory)


async def _make(directory: Path, readings: int, slug: str, advance: Callable[[int], None]) -> None:
    store = SqliteStore(directory)
    await store.open()
    try:
        made = 0
        for lines in _batches(readings):
            await store.write(slug, lines)
            made += len(lines)
            advance(made)
    finally:
        await store.close()


def _batches(readings: int) -> Iterator[list[bytes]]:
    """Yield readings in the order of arrival: all devices, step by step."""
    noise = random.Random(4)  # noqa: S311 - the same data set each time
    batch: list[bytes] = []
    for number in range(readings):
        step, device = divmod(number, DEVICES)
        time_ns = START_NS + step * STEP_NS + device
        values = b"f01=%.2f,sequence=%d" % (20 + noise.random() * 10, number)
        batch.append(b"climate,device=dev-%05d %s %d" % (device, values, time_ns))
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
