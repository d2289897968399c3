"""What is missing of a database at the start: cut, damaged and missing files, and what a power cut may leave."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.errors import StateUnavailable
from gateway.state import ledger, mark
from gateway.state.database import FILE_NAME
from tests.builders import database
from tests.servers import WITHIN

COMMITS = 50
KILLED = f"""
import asyncio, os, signal, sys
from pathlib import Path
from gateway.state.database import Database
from gateway.state.journal import Block, Journal

async def main():
    database = Database(Path(sys.argv[1]))
    await database.open()
    block = Block.of(["temperature,device=th-1 celsius=21 1"])
    for _ in range({COMMITS}):
        await database.write(lambda connection: Journal.append(connection, {{"acme": block}}), grows=True)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state that a gateway left which was killed after 50 commits."""
    path = tmp_path_factory.mktemp("killed") / FILE_NAME
    command = [sys.executable, "-c", KILLED, str(path)]
    assert subprocess.run(command, check=False, timeout=WITHIN).returncode == -signal.SIGKILL
    return path


@pytest.fixture
def path(killed: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(killed.parent, tmp_path, dirs_exist_ok=True)
    return tmp_path / FILE_NAME


async def journaled(path: Path) -> int:
    """Open the database; return the readings that it has."""
    async with database(path) as state:
        return (await state.read(ledger.balance))["acme"].journaled


def flip(path: Path, at: int) -> None:
    """Change one byte."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def wal(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def remove_wal(path: Path) -> None:
    wal(path).unlink()


def empty_wal(path: Path) -> None:
    os.truncate(wal(path), 0)


def cut_wal(path: Path) -> None:
    os.truncate(wal(path), wal(path).stat().st_size // 2)


def flip_header(path: Path) -> None:
    flip(wal(path), 17)


def flip_frame(path: Path) -> None:
    flip(wal(path), wal(path).stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def empty_all(path: Path) -> None:
    os.truncate(path, 0)
    remove_wal(path)


def replace(path: Path) -> None:
    remove_wal(path)
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE other (id INTEGER)")


CHANGES = [remove_wal, empty_wal, cut_wal, flip_header, flip_frame, empty, empty_all, Path.unlink, replace]


async def test_nothing_is_missing_after_a_kill(path: Path) -> None:
    """A gateway that was killed starts again, with all that it committed."""
    assert await journaled(path) == COMMITS


@pytest.mark.parametrize("change", CHANGES)
async def test_missing_commits_are_reported(path: Path, change: Callable[[Path], None]) -> None:
    """The gateway does not start, says what is missing and what to do, and changes nothing."""
    change(path)
    before = {one.name: one.read_bytes() for one in path.parent.iterdir() if not one.name.endswith("-shm")}
    for _ in range(2):
        with pytest.raises(StateUnavailable, match=r"expected .*(Put the right files back|restore a backup)"):
            await journaled(path)
    assert {name: (path.parent / name).read_bytes() for name in before} == before


async def test_the_number_of_missing_commits_is_accepted_explicitly(path: Path) -> None:
    """The error says how many commits are there; who deletes the mark starts with them."""
    cut_wal(path)
    with pytest.raises(StateUnavailable, match=r"at least 5\d commits, which were acknowledged; it has \d+") as caught:
        await journaled(path)
    assert str(path.with_name(mark.NAME)) in str(caught.value)
    path.with_name(mark.NAME).unlink()
    assert 0 < await journaled(path) < COMMITS


async def test_a_torn_tail_is_no_loss(path: Path) -> None:
    """A commit that a power cut interrupted was not acknowledged: what there is of it is ignored."""
    with wal(path).open("ab") as file:
        file.write(os.urandom(5000))
    assert await journaled(path) == COMMITS


@pytest.mark.parametrize("content", [b"", b"0000", bytes(47), None])
async def test_a_mark_that_a_power_cut_took_is_no_loss(path: Path, content: bytes | None) -> None:
    """The mark is not synced: an older one, a damaged one or none starts with what there is."""
    if content is None:
        path.with_name(mark.NAME).unlink()
    else:
        path.with_name(mark.NAME).write_bytes(content)
    assert await journaled(path) == COMMITS


async def test_a_backup_in_an_empty_directory_starts(path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A copy made with SQLite's backup has no mark, and starts as it is."""
    copy = tmp_path_factory.mktemp("restored") / FILE_NAME
    with sqlite3.connect(path) as source, sqlite3.connect(copy) as target:
        source.backup(target)
    assert await journaled(copy) == COMMITS


async def test_a_damaged_page_is_reported(path: Path) -> None:
    """A database with a damaged page is not opened for writing."""
    assert await journaled(path) == COMMITS
    flip(path, 4096)
    with pytest.raises(StateUnavailable, match=r"is damaged.*restore a backup"):
        await journaled(path)
