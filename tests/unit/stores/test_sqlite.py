"""What is special to the embedded store: its file, its faults and its threads; tests/contract has the rest."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from gateway.errors import StoreRefused, StoreUnavailable
from gateway.model import FieldValue
from gateway.stores import sqlite_schema, sqlite_writer
from gateway.stores.contract import Query, Row
from gateway.stores.sqlite import SqliteStore

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
    """The file as another program opens it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


async def read(store: SqliteStore, startup: str = "acme") -> list[Row]:
    return [row async for chunk in store.history(startup, EVERYTHING) for row in chunk]


async def test_a_store_is_opened_again(tmp_path: Path) -> None:
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


async def test_a_batch_is_written_whole_or_not_at_all(store: SqliteStore) -> None:
    """Nothing of a refused batch stays: no row, no series, no field, no measurement."""
    await store.write("acme", [LINE])
    with pytest.raises(StoreRefused):
        await store.write("acme", [b"new,device=b v=1.0 1", b"climate,device=b h=1.0 1", b"climate,device=b t=1i 1"])
    assert await store.measurements("acme") == ["climate"]
    assert [row.fields for row in await read(store)] == [{"t": 21.5}]
    await store.write("acme", [b"climate,device=b h=1i 1", b"new,device=b v=1i 1"])
    assert len(await store.latest("acme")) == 3


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
async def test_what_can_never_be_stored_is_refused(store: SqliteStore, line: bytes) -> None:
    """A line that cannot be read, or a number beyond 64 bits, is refused and holds up nothing."""
    with pytest.raises(StoreRefused):
        await store.write("acme", [LINE, line])
    await store.write("acme", [LINE])
    assert len(await read(store)) == 1


async def test_more_fields_than_a_table_can_have(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fields beyond the limit are refused; those that there are can be written on."""
    monkeypatch.setattr(sqlite_writer, "FIELDS", 10)
    await store.write("acme", [LINE])
    with pytest.raises(StoreRefused, match=r"climate.*10 fields.*f9"):
        await store.write("acme", [b"climate,device=a f%d=1.0 1" % number for number in range(10)])
    await store.write("acme", [LINE.replace(b"21.5", b"22.5")])
    assert [row.fields for row in await read(store)] == [{"t": 22.5}]


async def test_many_fields_in_a_batch(store: SqliteStore) -> None:
    """Rows with hundreds of fields fit, although a statement binds only so many values."""
    fields = b",".join(b"f%d=%d.0" % (number, number) for number in range(400))
    await store.write("acme", [b"climate,device=a %s %d" % (fields, time_ns) for time_ns in range(700)])
    found = await read(store)
    assert len(found) == 700
    assert found[-1].fields == {f"f{number}": float(number) for number in range(400)}


async def test_another_program_holds_the_file(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is locked is unavailable, reading goes on, other startups too, and then so does writing."""
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


async def test_the_disk_is_full(store: SqliteStore) -> None:
    """What does not fit on the disk is unavailable and leaves nothing half-written; later it fits."""
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


async def test_the_file_is_no_database(store: SqliteStore, tmp_path: Path) -> None:
    """A damaged file is unavailable to writes and queries, and the error says what to do."""
    (tmp_path / "acme.db").write_bytes(b"no database at all " * 100)
    with pytest.raises(StoreUnavailable, match="backup"):
        await store.write("acme", [LINE])
    with pytest.raises(StoreUnavailable, match="backup"):
        await store.measurements("acme")
    (tmp_path / "acme.db").unlink()
    await store.write("acme", [LINE])
    assert await store.measurements("acme") == ["climate"]


async def test_the_file_is_of_a_later_version(store: SqliteStore, tmp_path: Path) -> None:
    """A file in a format that this version does not know is left alone."""
    with opened(tmp_path / "acme.db") as later:
        later.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreUnavailable, match=r"acme\.db.*format 99"):
        await store.write("acme", [LINE])


async def test_a_file_that_is_only_begun_is_empty(store: SqliteStore, tmp_path: Path) -> None:
    """A file whose tables are not made yet has nothing in it."""
    (tmp_path / "acme.db").touch()
    assert await store.measurements("acme") == []
    await store.write("acme", [LINE])
    assert await store.measurements("acme") == ["climate"]


async def test_somebody_deletes_the_file(store: SqliteStore, tmp_path: Path) -> None:
    """What is written after the file was deleted, as `startups remove --delete-data` does, is in a new one."""
    await store.write("acme", [LINE])
    for path in await asyncio.to_thread(list, tmp_path.glob("acme.db*")):
        await asyncio.to_thread(path.unlink)
    assert await read(store) == []
    later = LINE.replace(b"21.5", b"22.5")
    await store.write("acme", [later])
    assert [row.fields for row in await read(store)] == [{"t": 22.5}]


async def test_another_worker_makes_a_deleted_file_anew(store: SqliteStore, tmp_path: Path) -> None:
    """Of two processes that write a startup's file both write into the new one after it was deleted."""
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


async def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    """The directory, and a startup's files while the store is open."""
    store = SqliteStore(tmp_path / "state" / "store")
    await store.open()
    await store.write("acme", [LINE])
    made = await asyncio.to_thread(list, (tmp_path / "state").rglob("*"))
    modes = {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in [tmp_path / "state", *made]}
    await store.close()
    files = dict.fromkeys(("acme.db", "acme.db-wal", "acme.db-shm"), "0o600")
    assert modes == {"state": "0o700", "store": "0o700"} | files


async def test_the_directory_cannot_be_made(tmp_path: Path) -> None:
    """A place that is no directory is said at the start."""
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailable, match="file"):
        await SqliteStore(tmp_path / "file").open()


def test_what_is_committed_is_on_the_disk(tmp_path: Path) -> None:
    """The file is in WAL mode, and every commit is synced."""
    with closing(sqlite_schema.open_for_writing(tmp_path / "acme.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_query_cannot_write(tmp_path: Path) -> None:
    """The connection of a query cannot change the file."""
    sqlite_schema.open_for_writing(tmp_path / "acme.db").close()
    connection = sqlite_schema.open_for_reading(tmp_path / "acme.db")
    assert connection is not None
    with closing(connection), pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("DELETE FROM series")


async def test_old_readings_are_forgotten(store: SqliteStore) -> None:
    """What is older than the bound is gone, of every series and measurement; the rest stays."""
    lines = [
        b"%b,device=%b t=1.0 %d" % (m, d, at) for m in (b"m", b"climate") for d in (b"a", b"b") for at in (1, 5, 9)
    ]
    await store.write("acme", lines)
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


async def test_a_cancelled_query_ends(store: SqliteStore) -> None:
    """A query whose caller goes away is interrupted, however much it has left to do."""
    await store.write("acme", [LINE])
    endless = "WITH RECURSIVE n (v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n) SELECT max(v) FROM n"
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1), store._lane("acme").reading() as session:
            await session.call(lambda connection: connection.execute(endless).fetchone(), None)
    assert len(await read(store)) == 1


async def test_closing_waits_for_the_writes_under_way(tmp_path: Path) -> None:
    """A write that has begun before the store is closed is stored."""
    store = SqliteStore(tmp_path)
    await store.open()
    batch = [b"climate,device=th-1 t=%d.0 %d" % (time_ns, time_ns) for time_ns in range(5000)]
    writing = asyncio.create_task(store.write("acme", batch))
    await asyncio.sleep(0)
    await store.close()
    await writing
    again = SqliteStore(tmp_path)
    assert len(await read(again)) == 5000
    await again.close()
