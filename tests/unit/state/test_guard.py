"""The files of a running gateway, removed, moved, replaced or cut; a disk that is full."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from gateway.config.models import JournalSettings
from gateway.errors import StateUnavailable
from gateway.state import ledger
from gateway.state.database import FILE_NAME, Database
from gateway.state.guard import RESCUED
from gateway.state.journal import Block, Journal
from tests.builders import database
from tests.servers import WITHIN, eventually

LINES = Block.of(["temperature,device=th-1 celsius=21 1"])
SETTINGS = JournalSettings()


async def append(state: Database, lines: Block = LINES) -> None:
    """Write what ingest does before it acknowledges."""
    await state.write(lambda connection: Journal.append(connection, {"acme": lines}), grows=True)


async def journaled(path: Path) -> int:
    """Return the readings that a database has after it is opened again."""
    async with database(path) as state:
        return (await state.read(ledger.balance))["acme"].journaled


def move(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


def replace(path: Path) -> None:
    shutil.copy(path, path.with_name("copy"))
    path.with_name("copy").replace(path)


def remove_directory(path: Path) -> None:
    shutil.rmtree(path.parent)


def move_directory(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))


def cut(path: Path) -> None:
    os.truncate(path, 0)


@pytest.mark.parametrize("change", [Path.unlink, move, replace, cut])
@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
async def test_nothing_is_acknowledged_into_a_lost_file(
    tmp_path: Path, suffix: str, change: Callable[[Path], None]
) -> None:
    """A file that was removed, moved, replaced or cut is noticed at the next commit, which is not acknowledged."""
    if (suffix, change) == ("-shm", cut):
        pytest.skip("SQLite has it mapped, and is killed by a signal")
    async with database(tmp_path / FILE_NAME) as state:
        await append(state)
        change(tmp_path / f"{FILE_NAME}{suffix}")
        with pytest.raises(StateUnavailable, match=f"{FILE_NAME}{suffix} was .* while the gateway was running"):
            await append(state)
        await asyncio.wait_for(state.lost.wait(), WITHIN)


@pytest.mark.parametrize("change", [Path.unlink, move, remove_directory, move_directory])
async def test_what_was_acknowledged_is_saved(tmp_path: Path, change: Callable[[Path], None]) -> None:
    """All that was acknowledged before the file was removed is in a new one at its path, once the gateway has ended."""
    path = tmp_path / "state" / FILE_NAME
    async with database(path) as state:
        for _ in range(3):
            await append(state)
        change(path)
        with pytest.raises(StateUnavailable):
            await append(state)
    assert await journaled(path) == 3


async def test_a_file_in_its_place_is_left_alone(tmp_path: Path) -> None:
    """What was acknowledged is saved beside a file that somebody put there."""
    path = tmp_path / FILE_NAME
    async with database(path) as state:
        await append(state)
        path.unlink()
        path.write_text("a file of somebody else")
        with pytest.raises(StateUnavailable):
            await append(state)
    assert path.read_text() == "a file of somebody else"
    with sqlite3.connect(path.with_name(f"{FILE_NAME}{RESCUED}")) as connection:
        assert connection.execute("SELECT count(*) FROM intake").fetchone() == (1,)


async def test_the_drain_goes_on(tmp_path: Path) -> None:
    """What is in a lost file can still be stored, and is counted."""
    async with database(tmp_path / FILE_NAME) as state:
        journal = Journal(state, SETTINGS)
        await append(state)
        journal.appended({"acme": LINES})
        (tmp_path / FILE_NAME).unlink()
        await state.check()
        await eventually(state.lost.is_set, says="the loss is noticed without a commit")
        await journal.sort()
        (entry,) = await journal.take("acme", 10)
        await state.write(lambda connection: journal.remove(connection, [entry]))
        assert await journal.take("acme", 10) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    directory = tmp_path / "disk"
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(directory)]
    if subprocess.run(mount, capture_output=True, check=False, timeout=WITHIN).returncode:
        pytest.skip("only root may mount a small file system")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True, timeout=WITHIN)


async def fill(state: Database) -> int:
    """Append until the disk has no room; return how many times that worked."""
    block = Block.of(["x" * 999] * 100)
    for times in range(1000):
        try:
            await append(state, block)
        except StateUnavailable as error:
            assert "full" in str(error)  # noqa: PT017  # whichever append it is
            return times
    raise AssertionError("the disk is larger than expected")


@pytest.mark.parametrize("other", [0, 1 << 30], ids=["by the journal", "by others too"])
async def test_a_journal_that_filled_the_disk_drains(small_disk: Path, other: int) -> None:
    """All of it can be sorted, taken and removed, and there is room for new readings afterwards."""
    async with database(small_disk / FILE_NAME) as state:
        journal = Journal(state, SETTINGS)
        appended = await fill(state)
        assert appended > 30
        await asyncio.to_thread(occupy, small_disk / "other", other)
        left = appended * 100
        for _ in range(1000):
            try:
                await journal.sort()
                while entries := await journal.take("acme", 1000):
                    await state.write(partial(Journal.remove, entries=entries))
                    left -= sum(entry.readings for entry in entries)
            except StateUnavailable:
                continue
            break
        assert left == 0
        (small_disk / "other").unlink()
        await append(state)


def occupy(path: Path, size: int) -> None:
    """Write up to `size` bytes, or until the disk is full."""
    with path.open("wb", buffering=0) as file:
        try:
            for _ in range(size >> 16):
                file.write(bytes(1 << 16))
        except OSError:
            return


async def test_a_limit_on_files_is_no_full_disk(tmp_path: Path) -> None:
    """Where the reserve may not be made although there is room, readings are accepted."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        async with database(tmp_path / FILE_NAME) as state:
            await append(state)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
