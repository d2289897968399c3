"""The state file: group commit, failing work, formats, reading it from outside."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from unittest.mock import Mock

import pytest

from gateway.errors import StateClosed, StateUnavailable
from gateway.model import Counts
from gateway.state import ledger
from gateway.state.database import FILE_NAME, FORMAT, Database, read_only
from gateway.state.group_commit import Work
from gateway.state.lock import locked
from tests.builders import database
from tests.servers import WITHIN, eventually, keep_waiting


def put(key: str, startup: str = "acme") -> Callable[[sqlite3.Connection], str]:
    def work(connection: sqlite3.Connection) -> str:
        connection.execute("INSERT INTO series VALUES (?, ?)", (startup, key))
        return key

    return work


def keys(connection: sqlite3.Connection) -> list[str]:
    return [key for (key,) in connection.execute("SELECT key FROM series ORDER BY key")]


@asynccontextmanager
async def busy(state: Database) -> AsyncIterator[None]:
    """Keep the writer busy inside the block: whatever is submitted meanwhile waits."""
    begun, go_on = threading.Event(), threading.Event()

    def slow(_connection: sqlite3.Connection) -> None:
        begun.set()
        go_on.wait(WITHIN)

    writing = asyncio.create_task(state.write(slow))
    await asyncio.to_thread(begun.wait, WITHIN)
    try:
        yield
    finally:
        go_on.set()
        await writing


async def submitted(state: Database, works: Iterable[Work[str]]) -> list[asyncio.Task[str]]:
    """Return a task for each work, once all of them are submitted."""
    begun: list[Work[str]] = []

    async def write(work: Work[str]) -> str:
        begun.append(work)
        return await state.write(work)

    tasks = [asyncio.create_task(write(work)) for work in works]
    await eventually(lambda: len(begun) == len(tasks), says="all work is submitted")
    return tasks


async def test_write_returns_what_the_work_returns(tmp_path: Path) -> None:
    """The caller gets what its work returns, and what it wrote can be read."""
    async with database(tmp_path / FILE_NAME) as state:
        assert await state.write(put("a")) == "a"
        assert await state.read(keys) == ["a"]


def modes(directory: Path) -> dict[str, str]:
    """The modes of a directory and of all below it, by name."""
    return {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in [directory, *directory.rglob("*")]}


async def test_the_state_is_for_its_owner_alone(tmp_path: Path) -> None:
    """The directory, the three files that SQLite has while it is open, the mark and the reserve."""
    async with database(tmp_path / "state" / FILE_NAME) as state:
        await state.write(put("a"))
        found = await asyncio.to_thread(modes, tmp_path / "state")
    files = (FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm", "gateway.mark", "reserve")
    assert found == {"state": "0o700"} | dict.fromkeys(files, "0o600")


async def test_an_existing_directory_keeps_its_mode(tmp_path: Path) -> None:
    """An operator may let a group read it."""
    tmp_path.chmod(0o750)
    (tmp_path / FILE_NAME).touch()
    (tmp_path / FILE_NAME).chmod(0o640)
    async with database(tmp_path / FILE_NAME) as state:
        await state.write(put("a"))
        found = await asyncio.to_thread(modes, tmp_path)
    databases = [mode for name, mode in found.items() if name.startswith(FILE_NAME)]
    assert (found[tmp_path.name], set(databases)) == ("0o750", {"0o640"})


def test_state_of_another_account_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An account without access to the directory gets a message with the account to use."""
    monkeypatch.setattr(Path, "exists", Mock(side_effect=PermissionError(13, "Permission denied")))
    with pytest.raises(StateUnavailable, match="Permission denied; use the account that the gateway runs as"):
        read_only(tmp_path / FILE_NAME, keys)


async def test_many_writes_share_a_commit(tmp_path: Path) -> None:
    """Writes submitted during one commit are in the next one together, and all of them are on disk."""
    async with database(tmp_path / FILE_NAME) as state:
        transactions: list[str] = []
        await state.write(lambda connection: connection.set_trace_callback(transactions.append))
        transactions.clear()
        async with busy(state):
            others = await submitted(state, [put(f"{i:03}") for i in range(200)])
        await asyncio.gather(*others)
        assert transactions.count("COMMIT") == 2
        assert len(await state.read(keys)) == 200


async def test_failing_work_is_rolled_back_alone(tmp_path: Path) -> None:
    """In a group, work that raises is undone and its caller gets the error; the others are written."""

    def fails(connection: sqlite3.Connection) -> None:
        put("lost")(connection)
        raise KeyError("mine")

    async with database(tmp_path / FILE_NAME) as state:
        results = await asyncio.gather(
            state.write(put("a")),
            state.write(fails),
            state.write(put("a")),
            state.write(put("b")),
            return_exceptions=True,
        )
        assert (results[0], results[3]) == ("a", "b")
        assert isinstance(results[1], KeyError)
        assert isinstance(results[2], StateUnavailable)
        assert "UNIQUE" in str(results[2])
        assert await state.read(keys) == ["a", "b"]


@pytest.mark.parametrize("error", [sqlite3.OperationalError("database or disk is full"), KeyError("disk is full")])
async def test_disk_that_cannot_be_written(tmp_path: Path, error: Exception) -> None:
    """Where the transaction itself fails, every caller gets an error, nothing is written, and later writes work."""

    def full(connection: sqlite3.Connection) -> None:
        put("lost")(connection)
        connection.execute("ROLLBACK")  # as SQLite does by itself when the disk is full
        raise error

    async with database(tmp_path / FILE_NAME) as state:
        results = await asyncio.gather(state.write(put("a")), state.write(full), return_exceptions=True)
        assert isinstance(results[1], StateUnavailable)
        assert "disk is full" in str(results[1])
        await state.write(put("b"))
        written = await state.read(keys)
        assert ("a" in written) == (results[0] == "a")
        assert "b" in written


async def test_disk_that_cannot_even_roll_back(tmp_path: Path) -> None:
    """Where the rollback fails too, the callers get an error with its cause, and the writer survives."""
    writers: list[sqlite3.Connection] = []

    def fails(connection: sqlite3.Connection) -> None:
        put("lost")(connection)
        writers.append(connection)
        connection.set_authorizer(lambda *_: sqlite3.SQLITE_DENY)  # from now on, SQLite executes nothing

    async with database(tmp_path / FILE_NAME) as state:
        for work in (fails, put("refused")):
            with pytest.raises(StateUnavailable, match="cannot be written: not authorized"):
                await state.write(work)
        writers[0].set_authorizer(None)
        with pytest.raises(StateUnavailable, match="within a transaction"):  # which this write ends, too
            await state.write(put("refused"))
        await state.write(put("a"))
        assert await state.read(keys) == ["a"]


async def test_cancelled_caller_does_not_affect_the_others(tmp_path: Path) -> None:
    """A caller that is cancelled while its work waits leaves the others of its group as they are."""
    async with database(tmp_path / FILE_NAME) as state:
        async with busy(state):
            tasks = await submitted(state, [put(str(i)) for i in range(3)])
            tasks[1].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert (results[0], results[2]) == ("0", "2")
        assert isinstance(results[1], asyncio.CancelledError)


async def test_reopen(tmp_path: Path) -> None:
    """Written data is there after a restart; a missing directory is made."""
    path = tmp_path / "deep/down" / FILE_NAME
    async with database(path) as state:
        await state.write(put("a"))
    async with database(path) as state:
        assert await state.read(keys) == ["a"]


async def test_close_finishes_what_was_submitted(tmp_path: Path) -> None:
    """Work submitted before `close` is written, and its caller gets the result."""
    state = Database(tmp_path / FILE_NAME)
    await state.open()
    async with busy(state):
        writes = await submitted(state, [put(f"{i:02}") for i in range(50)])
        closing = asyncio.create_task(state.close())
        await keep_waiting(closing)
    await closing
    assert await asyncio.gather(*writes) == [f"{i:02}" for i in range(50)]
    assert len(await asyncio.to_thread(read_only, state.path, keys)) == 50


async def test_closed_database_rejects_work(tmp_path: Path) -> None:
    """From `close` on, the database takes no more work: nobody waits for ever. Closing twice is fine."""
    state = Database(tmp_path / FILE_NAME)
    await state.open()
    async with busy(state):
        closing = asyncio.create_task(state.close())
        await keep_waiting(closing)
        with pytest.raises(StateClosed):
            await asyncio.wait_for(state.write(put("late")), WITHIN)
        with pytest.raises(StateClosed):
            await asyncio.wait_for(state.read(keys), WITHIN)
    await closing
    await state.close()
    with pytest.raises(StateClosed):
        await state.read(keys)


async def test_close_waits_for_a_read(tmp_path: Path) -> None:
    """A read that runs while the database is closed still gets its answer."""
    state = Database(tmp_path / FILE_NAME)
    await state.open()
    begun, go_on = threading.Event(), threading.Event()

    def slow(connection: sqlite3.Connection) -> list[str]:
        begun.set()
        go_on.wait(WITHIN)
        return keys(connection)

    reading = asyncio.create_task(state.read(slow))
    await asyncio.to_thread(begun.wait, WITHIN)
    closing = asyncio.create_task(state.close())
    await keep_waiting(closing)
    go_on.set()
    assert await reading == []
    await closing


async def test_newer_format(tmp_path: Path) -> None:
    """State written by a newer gateway is left alone."""
    path = tmp_path / FILE_NAME
    async with database(path):
        pass
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {FORMAT + 1}")
    connection.close()
    with pytest.raises(StateUnavailable, match=f"expected state of format {FORMAT}; it has {FORMAT + 1}.*newer"):
        await Database(path).open()


async def test_no_state_file(tmp_path: Path) -> None:
    """A file that is not SQLite, or a path below a file, is reported in words."""
    (tmp_path / FILE_NAME).write_bytes(b"no database at all" * 100)
    with pytest.raises(StateUnavailable, match="expected a state file of the gateway"):
        await Database(tmp_path / FILE_NAME).open()
    with pytest.raises(StateUnavailable, match="expected a directory to keep state in"):
        await Database(tmp_path / FILE_NAME / "below" / FILE_NAME).open()
    with pytest.raises(StateUnavailable, match="expected a state file of the gateway"):
        await Database(tmp_path).open()


async def test_read_only_beside_a_running_gateway(tmp_path: Path) -> None:
    """The command line can read the state of a gateway, whether it runs or not."""
    path = tmp_path / FILE_NAME
    async with database(path) as state:
        await state.write(put("a"))
        assert await asyncio.to_thread(read_only, path, keys) == ["a"]
    assert await asyncio.to_thread(read_only, path, keys) == ["a"]


def test_read_only_without_a_file(tmp_path: Path) -> None:
    """Where no gateway ever ran there is nothing to read, and nothing is made."""
    with pytest.raises(StateUnavailable, match="start it with `gateway run`"):
        read_only(tmp_path / FILE_NAME, keys)
    assert list(tmp_path.iterdir()) == []


def test_read_only_of_something_else(tmp_path: Path) -> None:
    """A file that is not a gateway's state is reported in words."""
    (tmp_path / "text").write_bytes(b"no database at all" * 100)
    with pytest.raises(StateUnavailable, match="cannot be read: file is not a database"):
        read_only(tmp_path / "text", keys)
    (tmp_path / FILE_NAME).write_bytes(b"")
    with pytest.raises(StateUnavailable, match="cannot be read: no such table"):
        read_only(tmp_path / FILE_NAME, keys)


async def test_reading_cannot_write(tmp_path: Path) -> None:
    """Changes of a reader are not kept."""
    async with database(tmp_path / FILE_NAME) as state:
        await state.read(put("a"))
        assert await state.read(keys) == []


async def test_durable_settings(tmp_path: Path) -> None:
    """A commit that returned survives a power cut: WAL, and a full fsync with each commit."""

    def pragmas(connection: sqlite3.Connection) -> list[object]:
        return [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]

    async with database(tmp_path / FILE_NAME) as state:
        assert await state.write(pragmas) == ["wal", 2]


async def test_ledger_adds_up(tmp_path: Path) -> None:
    """The ledger adds what each transaction brings, per startup."""
    async with database(tmp_path / FILE_NAME) as state:
        await state.write(
            lambda connection: ledger.add(connection, {"acme": Counts(received=3, accepted=2, rejected=1)})
        )
        await state.write(lambda connection: ledger.add(connection, {"acme": Counts(stored=2), "beta": Counts()}))
        balance = await state.read(ledger.balance)
    assert balance == {"acme": Counts(received=3, accepted=2, rejected=1, stored=2), "beta": Counts()}
    assert all(counts.balanced for counts in balance.values())
    assert Counts.total(balance) == balance["acme"]


async def test_a_cancelled_read_keeps_the_connection_until_it_ends(tmp_path: Path) -> None:
    """A cancelled read keeps the connection while it runs: the next read, or the closing, waits for it."""
    database = Database(tmp_path / "state.db")
    await database.open()
    began, may_end = threading.Event(), threading.Event()
    order: list[str] = []

    def slow(_connection: sqlite3.Connection) -> None:
        began.set()
        may_end.wait(WITHIN)
        order.append("slow")

    first = asyncio.create_task(database.read(slow))
    await asyncio.to_thread(began.wait, WITHIN)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    second = asyncio.create_task(database.read(lambda _connection: order.append("second")))
    closing = asyncio.create_task(database.close())
    await keep_waiting(second, closing)
    assert order == []
    may_end.set()
    await asyncio.gather(second, closing)
    assert order == ["slow", "second"]


def test_a_state_directory_has_one_gateway(tmp_path: Path) -> None:
    """A second one is turned away while the first runs, and let in afterwards."""
    with locked(tmp_path), pytest.raises(StateUnavailable, match="another gateway"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass
