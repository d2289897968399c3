"""The embedded store's own: its file, its faults and its threads; tests/contract has the rest."""

from __future__ import annotations

import asyncio
import resource
import shutil
import sqlite3
import stat
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from gateway.errors import StoreRefused, StoreUnavailable
from gateway.model import FieldValue
from gateway.stores import sqlite_reader, sqlite_schema, sqlite_writer
from gateway.stores.contract import Query, Row
from gateway.stores.sqlite import SqliteStore
from gateway.stores.sqlite_writer import Writer
from tests.builders import latest
from tests.servers import WITHIN, keep_waiting

LINE = b"climate,device=th-1 t=21.5 1763900000000000000"
EVERYTHING = Query("climate", 0, 1 << 62)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(tmp_path)
    await store.open()
    yield store
    await store.close()


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the file as another program does."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


async def read(store: SqliteStore, startup: str = "acme") -> list[Row]:
    return [row async for chunk in store.history(startup, EVERYTHING) for row in chunk]


async def test_closed_store_opens_again(tmp_path: Path) -> None:
    """Readings, types and series are there after the store was closed."""
    for time_ns in (1, 2):
        store = SqliteStore(tmp_path / "new" / "directory")
        await store.open()
        await store.write("acme", [b'climate,device=a t=1.0,n=1i,s="x",b=true %d' % time_ns])
        with pytest.raises(StoreRefused):
            await store.write("acme", [b"climate,device=a t=true 3"])
        found = await read(store)
        await store.close()
    fields: dict[str, FieldValue] = {"t": 1.0, "n": 1, "s": "x", "b": True}
    assert found == [Row(time_ns, {"device": "a"}, fields) for time_ns in (1, 2)]


async def test_batch_is_written_whole_or_not_at_all(store: SqliteStore) -> None:
    """Nothing of a refused batch stays: no row, no series, no field, no measurement."""
    await store.write("acme", [LINE])
    with pytest.raises(StoreRefused):
        await store.write("acme", [b"new,device=b v=1.0 1", b"climate,device=b h=1.0 1", b"climate,device=b t=1i 1"])
    assert await store.measurements("acme") == ["climate"]
    assert [row.fields for row in await read(store)] == [{"t": 21.5}]
    await store.write("acme", [b"climate,device=b h=1i 1", b"new,device=b v=1i 1"])
    assert len(await latest(store, "acme")) == 3


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"climate",
        b"climate,device=a t=1.0",
        b"climate,device t=1.0 1",
        b"climate,device=a n=9223372036854775808i 1",
        b"climate,device=a n=1i 9223372036854775808",
        b"\xff,device=a t=1.0 1",
        b"climate,device=a \xff=1.0 1",
    ],
)
async def test_invalid_line_is_refused(store: SqliteStore, line: bytes) -> None:
    """A line that cannot be parsed, or a number beyond 64 bits, is refused and holds up nothing."""
    with pytest.raises(StoreRefused):
        await store.write("acme", [LINE, line])
    await store.write("acme", [LINE])
    assert len(await read(store)) == 1


async def test_fields_beyond_the_limit_are_refused(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A measurement gets no more fields than the limit; those that it has can still be written."""
    monkeypatch.setattr(sqlite_writer, "FIELDS", 10)
    await store.write("acme", [LINE])
    with pytest.raises(StoreRefused, match=r"climate.*10 fields.*f9"):
        await store.write("acme", [b"climate,device=a f%d=1.0 1" % number for number in range(10)])
    await store.write("acme", [LINE.replace(b"21.5", b"22.5")])
    assert [row.fields for row in await read(store)] == [{"t": 22.5}]


async def test_many_fields_in_a_batch(store: SqliteStore) -> None:
    """Rows with hundreds of fields are stored, although a statement binds a limited number of values."""
    fields = b",".join(b"f%d=%d.0" % (number, number) for number in range(400))
    await store.write("acme", [b"climate,device=a %s %d" % (fields, time_ns) for time_ns in range(700)])
    found = await read(store)
    assert len(found) == 700
    assert found[-1].fields == {f"f{number}": float(number) for number in range(400)}


async def test_locked_file_is_unavailable(store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another program locks a file it cannot be written; queries and other startups go on, later writes too."""
    monkeypatch.setattr(sqlite_schema, "BUSY_SECONDS", 0.1)
    await store.write("acme", [LINE])
    with opened(tmp_path / "acme.db") as other:
        other.execute("BEGIN IMMEDIATE")
        blocked = asyncio.create_task(store.write("acme", [LINE.replace(b"th-1", b"th-2")]))
        await store.write("birch", [LINE])
        assert len(await read(store)) == len(await read(store, "birch")) == 1
        with pytest.raises(StoreUnavailable, match=r"acme\.db.*locked.*another program"):
            await blocked
    await store.write("acme", [LINE.replace(b"th-1", b"th-2")])
    assert len(await read(store)) == 2


async def test_full_disk_is_unavailable(store: SqliteStore) -> None:
    """A batch that does not fit on the disk leaves nothing half-written; once there is room it is stored."""
    await store.write("acme", [LINE])
    batch = [b'climate,device=th-1 s="%s" %d' % (b"x" * 1000, time_ns) for time_ns in range(2000)]
    with file_limit(1 << 20), pytest.raises(StoreUnavailable, match=r"acme\.db.*disk"):
        await store.write("acme", batch)
    assert len(await read(store)) == 1
    await store.write("acme", batch)
    assert len(await read(store)) == 2001


@contextmanager
def file_limit(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond `size` bytes, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_damaged_file_is_unavailable(store: SqliteStore, tmp_path: Path) -> None:
    """A damaged file is unavailable to writes and queries, and the error says what to do."""
    (tmp_path / "acme.db").write_bytes(b"not a database at all " * 100)
    with pytest.raises(StoreUnavailable, match="backup"):
        await store.write("acme", [LINE])
    with pytest.raises(StoreUnavailable, match="backup"):
        await store.measurements("acme")
    (tmp_path / "acme.db").unlink()
    await store.write("acme", [LINE])
    assert await store.measurements("acme") == ["climate"]


async def test_file_of_a_newer_format_is_left_alone(store: SqliteStore, tmp_path: Path) -> None:
    """A file in a format that this version does not know is not written."""
    with opened(tmp_path / "acme.db") as later:
        later.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreUnavailable, match=r"acme\.db.*format 99"):
        await store.write("acme", [LINE])


async def test_file_without_tables_is_empty(store: SqliteStore, tmp_path: Path) -> None:
    """A file whose tables do not exist yet holds no measurements, and can be written."""
    (tmp_path / "acme.db").touch()
    assert await store.measurements("acme") == []
    await store.write("acme", [LINE])
    assert await store.measurements("acme") == ["climate"]


async def test_file_whose_creation_was_cut_short_is_empty(store: SqliteStore, tmp_path: Path) -> None:
    """A power cut while the file was created leaves a rollback journal: it has no readings, and can be written."""
    with closing(sqlite3.connect(tmp_path / "creating.db", isolation_level=None)) as creating:
        creating.execute("CREATE TABLE anything (x)")
        creating.execute("PRAGMA cache_size = 1")  # so that the journal is used before the commit
        creating.execute("BEGIN IMMEDIATE")
        creating.executemany("INSERT INTO anything VALUES (zeroblob(4000))", [()] * 50)
        for suffix in ("", "-journal"):
            shutil.copy(tmp_path / f"creating.db{suffix}", tmp_path / f"acme.db{suffix}")
    assert await read(store) == []
    await store.write("acme", [b"climate,device=d1 value=1 1"])
    assert len(await read(store)) == 1


async def test_deleted_file_is_created_again(store: SqliteStore, tmp_path: Path) -> None:
    """A write after the file was deleted, as `startups remove --delete-data` does, goes to a new file."""
    await store.write("acme", [LINE])
    for path in await asyncio.to_thread(list, tmp_path.glob("acme.db*")):
        await asyncio.to_thread(path.unlink)
    assert await read(store) == []
    later = LINE.replace(b"21.5", b"22.5")
    await store.write("acme", [later])
    assert [row.fields for row in await read(store)] == [{"t": 22.5}]


async def test_workers_share_the_file_that_replaces_a_deleted_one(store: SqliteStore, tmp_path: Path) -> None:
    """Two processes that write a startup's file both write to the new one after it was deleted."""
    other = SqliteStore(tmp_path)
    await other.open()
    lines = [LINE[:-1] + b"%d" % number for number in range(4)]
    await store.write("acme", [lines[0]])
    await other.write("acme", [lines[1]])
    for path in await asyncio.to_thread(list, tmp_path.glob("acme.db*")):
        await asyncio.to_thread(path.unlink)
    await other.write("acme", [lines[2]])
    await store.write("acme", [lines[3]])
    assert len(await read(store)) == len(await read(other)) == 2
    await other.close()


async def test_only_the_owner_may_read_the_files(tmp_path: Path) -> None:
    """This holds for the directory, and for a startup's files while the store is open."""
    store = SqliteStore(tmp_path / "state" / "store")
    await store.open()
    await store.write("acme", [LINE])
    made = await asyncio.to_thread(list, (tmp_path / "state").rglob("*"))
    modes = {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in [tmp_path / "state", *made]}
    await store.close()
    files = dict.fromkeys(("acme.db", "acme.db-wal", "acme.db-shm"), "0o600")
    assert modes == {"state": "0o700", "store": "0o700"} | files


async def test_directory_that_cannot_be_created_is_reported(tmp_path: Path) -> None:
    """A path that is not a directory is an error when the store opens."""
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailable, match="file"):
        await SqliteStore(tmp_path / "file").open()


def test_commits_are_synced(tmp_path: Path) -> None:
    """The file is in WAL mode, and every commit is synced."""
    with closing(sqlite_schema.open_for_writing(tmp_path / "acme.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)


def test_query_cannot_write(tmp_path: Path) -> None:
    """The connection of a query cannot change the file."""
    sqlite_schema.open_for_writing(tmp_path / "acme.db").close()
    connection = sqlite_schema.open_for_reading(tmp_path / "acme.db")
    assert connection is not None
    with closing(connection), pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("DELETE FROM series")


async def test_expired_readings_are_deleted(store: SqliteStore) -> None:
    """Readings older than the bound are deleted from every series and measurement; the others stay."""
    lines = [
        b"%b,device=%b t=1.0 %d" % (m, d, at) for m in (b"m", b"climate") for d in (b"a", b"b") for at in (1, 5, 9)
    ]
    await store.write("acme", lines)
    for _ in range(2):  # the first call only notes the time
        await store.expire("acme", 5)
        await store.expire("never-wrote", 5)
    assert sorted((row.tags["device"], row.time_ns) for row in await read(store)) == [
        ("a", 5),
        ("a", 9),
        ("b", 5),
        ("b", 9),
    ]
    await store.write("acme", [b"climate,device=a t=2.0 7"])
    assert len(await read(store)) == 5


async def test_cancelled_query_ends(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A query whose caller goes away is interrupted, however much it has left to do."""
    await store.write("acme", [LINE])
    endless = "WITH RECURSIVE n (v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n) SELECT max(v) FROM n"
    monkeypatch.setattr(sqlite_reader, "measurements", lambda connection: connection.execute(endless).fetchall())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await store.measurements("acme")
    assert len(await read(store)) == 1


async def test_close_waits_for_writes_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that began before the store closes is stored."""
    monkeypatch.setattr(sqlite_schema, "BUSY_SECONDS", WITHIN)
    store = SqliteStore(tmp_path)
    await store.open()
    await store.write("acme", [LINE])
    batch = [b"climate,device=th-1 t=%d.0 %d" % (time_ns, time_ns) for time_ns in range(5000)]
    with opened(tmp_path / "acme.db") as other:
        other.execute("BEGIN IMMEDIATE")  # the write waits for it
        writing = asyncio.create_task(store.write("acme", batch))
        await keep_waiting(writing)
        closing = asyncio.create_task(store.close())
        await keep_waiting(writing, closing)
    await closing
    await writing
    again = SqliteStore(tmp_path)
    assert len(await read(again)) == 5001
    await again.close()


HOUR = 3_600_000_000_000
YEAR = 365 * 24 * HOUR


async def stored(store: SqliteStore) -> int:
    return len(await read(store))


async def test_a_clock_that_is_ahead_deletes_no_history(
    store: SqliteStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """However often a gateway starts with a clock a year ahead, it deletes nothing, and reports what it would."""
    await store.write("acme", [b"climate,device=a t=1.0 %d" % (YEAR + at * HOUR) for at in range(100)])
    for _ in range(3):
        await store.expire("acme", 3 * YEAR)
        await store.close()
    assert await stored(store) == 100
    assert "clock right?" in capsys.readouterr().out


async def test_expiry_keeps_pace_with_time(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has become too old since the last time goes, also a little more; gaps in the history cost nothing."""
    await store.write("acme", [b"climate,device=a t=1.0 5"])
    await store.write("acme", [b"climate,device=a t=1.0 %d" % (YEAR + at * HOUR) for at in range(100)])
    began = time.monotonic()
    for hours, left in ((0, 101), (1, 100), (2, 76)):
        monkeypatch.setattr(time, "monotonic", lambda hours=hours: began + 3600 * hours)
        await store.expire("acme", 2 * YEAR)
        assert await stored(store) == left


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
async def test_what_is_written_while_a_file_is_removed_is_written_again(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """A write during which a file of the startup was removed fails, so that its readings stay in the journal."""
    await store.write("acme", [LINE])
    write = Writer.write

    def removed_meanwhile(writer: Writer, lines: Sequence[bytes]) -> None:
        write(writer, lines)
        (tmp_path / f"acme.db{suffix}").unlink()

    with monkeypatch.context() as patched:
        patched.setattr(Writer, "write", removed_meanwhile)
        with pytest.raises(StoreUnavailable, match="was removed or moved while it was written"):
            await store.write("acme", [LINE])
    await store.write("acme", [LINE])
    assert await stored(store) == 1
