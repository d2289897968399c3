"""State of the gateway on disk: one SQLite file, one writer thread, group commit.

On-disk format (`PRAGMA user_version` 1), WAL with synchronous=FULL, so that a commit that returned survives a
power cut:

    intake        accepted readings as they arrived, one row a commit, until they are sorted: `directory` is JSON,
                  {"acme": [readings, bytes], ...}, and `data` the blocks of these startups one after the other
    journal       accepted readings on their way to the store; one row per sorting and startup;
                  `lines` is line protocol, the lines separated by NUL, which no line can hold
    dead_letters  rejections with their raw bytes; `records` and `reasons` are JSON, `cut` the bytes of the payload that
                  were too many to be kept, `size` the bytes that the row takes
    letter_totals how many dead letters are kept of each startup, their bytes, and how many were dropped
    ledger        per startup, counts of records since the file was made, without those of the intake
    devices       when each device was first and last seen, and its counts
    series        the series keys that each startup has used
    sequences     the sequence numbers of each device and measurement; `kept` is JSON, see `gateway.state.sequences`

All callers of `write` that called while the last commit ran share one transaction, and the cost of one fsync. A piece
of work that fails is rolled back alone.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, TypeVar

from gateway.errors import StateClosed, StateUnavailable
from gateway.state import dead_letters, private_files

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

FILE_NAME = "gateway.db"
FORMAT = 1
_SCHEMA = """
CREATE TABLE intake (id INTEGER PRIMARY KEY AUTOINCREMENT, directory TEXT NOT NULL, data BLOB NOT NULL);
CREATE TABLE journal (id INTEGER PRIMARY KEY AUTOINCREMENT, startup TEXT NOT NULL, readings INTEGER NOT NULL,
    lines BLOB NOT NULL);
CREATE INDEX journal_lane ON journal (startup, id);
CREATE TABLE dead_letters (id INTEGER PRIMARY KEY AUTOINCREMENT, startup TEXT NOT NULL, device TEXT NOT NULL,
    topic TEXT NOT NULL, arrived_ns INTEGER NOT NULL, records TEXT NOT NULL, reasons TEXT NOT NULL,
    payload BLOB NOT NULL, cut INTEGER NOT NULL DEFAULT 0, size INTEGER NOT NULL DEFAULT 0);
CREATE INDEX dead_letters_startup ON dead_letters (startup, arrived_ns);
CREATE INDEX dead_letters_arrived ON dead_letters (arrived_ns);
CREATE TABLE letter_totals (startup TEXT PRIMARY KEY, letters INTEGER NOT NULL, bytes INTEGER NOT NULL,
    dropped INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE ledger (startup TEXT PRIMARY KEY, received INTEGER NOT NULL, accepted INTEGER NOT NULL,
    rejected INTEGER NOT NULL, stored INTEGER NOT NULL, refused INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE devices (startup TEXT NOT NULL, device TEXT NOT NULL, first_ns INTEGER NOT NULL,
    last_ns INTEGER NOT NULL, accepted INTEGER NOT NULL, rejected INTEGER NOT NULL, rejected_ns INTEGER NOT NULL,
    PRIMARY KEY (startup, device)) WITHOUT ROWID;
CREATE TABLE series (startup TEXT NOT NULL, key TEXT NOT NULL, PRIMARY KEY (startup, key)) WITHOUT ROWID;
CREATE TABLE sequences (startup TEXT NOT NULL, device TEXT NOT NULL, measurement TEXT NOT NULL, kept BLOB NOT NULL,
    PRIMARY KEY (startup, device, measurement)) WITHOUT ROWID;
"""


class _Job(NamedTuple):
    work: Work[Any]
    future: asyncio.Future[Any]


class Database:
    """`write` and `read` run a function over a connection, off the event loop."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._reader: sqlite3.Connection | None = None
        # One thread for all reads, and for closing: a read whose caller was cancelled still uses the connection.
        self._reading = ThreadPoolExecutor(1, "state-reader")
        self._thread: threading.Thread | None = None

    async def open(self) -> None:
        """Create or open the file.

        Raises:
            StateUnavailable: it cannot be written, or a newer gateway made it.
        """
        self._loop = asyncio.get_running_loop()
        writer = await asyncio.to_thread(_open_writer, self.path)
        self._reader = await self._loop.run_in_executor(self._reading, _connect, self.path)
        self._thread = threading.Thread(target=self._write_groups, args=(writer,), name="state-writer")
        self._thread.start()

    async def close(self) -> None:
        """Finish what was submitted, then close."""
        thread, self._thread = self._thread, None
        reader, self._reader = self._reader, None
        if thread is None or reader is None:
            return
        self._jobs.put(None)
        await asyncio.to_thread(thread.join)
        await self._loop.run_in_executor(self._reading, reader.close)
        self._reading.shutdown(wait=False)

    async def write(self, work: Work[T]) -> T:
        """Run `work` in a transaction that is on disk when this returns.

        Raises:
            StateUnavailable: nothing of it was written.
            StateClosed: after `close`.
        """
        if self._thread is None:
            raise StateClosed("the state database is closed")
        future: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put(_Job(work, future))
        return await future

    async def read(self, work: Work[T]) -> T:
        """Run `work`, which only reads, over one consistent state.

        Raises:
            StateUnavailable: the file cannot be read.
            StateClosed: after `close`.
        """
        reader = self._reader
        if reader is None:
            raise StateClosed("the state database is closed")
        return await self._loop.run_in_executor(self._reading, _read, reader, work)

    def _write_groups(self, writer: sqlite3.Connection) -> None:
        """Commit in the writer thread; all work submitted during one commit is the next group."""
        running = True
        while running:
            group: list[_Job] = []
            job = self._jobs.get()
            while job is not None:
                group.append(job)
                try:
                    job = self._jobs.get_nowait()
                except Empty:
                    break
            running = job is not None
            if group:
                self._loop.call_soon_threadsafe(_resolve, group, _commit(writer, group))
        writer.close()


def read_only(path: Path, work: Work[T]) -> T:
    """Run `work` over the file of a gateway, whether it runs or not; for the command line.

    Raises:
        StateUnavailable: there is no such file, or it cannot be read.
    """
    try:
        is_there = path.exists()
    except OSError as error:  # only the gateway's account may see the directory
        raise StateUnavailable(f"{path}: {error.strerror}; use the account that the gateway runs as") from error
    if not is_there:
        raise StateUnavailable(f"{path}: no gateway has kept its state here yet; start it with `gateway run`")
    connection = _connect(path)
    try:
        return _read(connection, work)
    finally:
        connection.close()


def _connect(path: Path) -> sqlite3.Connection:
    try:
        return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    except sqlite3.Error as error:
        raise _unavailable(path, error) from error


def _open_writer(path: Path) -> sqlite3.Connection:
    try:
        private_files.make_directory(path.parent)
    except OSError as error:
        raise StateUnavailable(f"{path.parent}: expected a directory to keep state in; {error.strerror}") from error
    private_files.make_file(path)
    connection = _connect(path)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {FORMAT}; COMMIT;")
        elif version == FORMAT:
            dead_letters.add_sizes(connection)
    except sqlite3.Error as error:
        connection.close()
        raise _unavailable(path, error) from error
    if version > FORMAT:
        connection.close()
        raise StateUnavailable(
            f"{path}: expected state of format {FORMAT}; it has {version}, so a newer gateway "
            "wrote it: use that version"
        )
    return connection


def _commit(writer: sqlite3.Connection, group: list[_Job]) -> list[Any]:
    """Run the group in one transaction; where an outcome is an exception, nothing of that job was written."""
    try:
        writer.execute("BEGIN IMMEDIATE")
        outcomes = [_run(writer, job.work) for job in group]
        writer.execute("COMMIT")
    except Exception as error:  # whatever it is: every caller gets it, and the writer continues
        with suppress(sqlite3.Error):
            if writer.in_transaction:
                writer.execute("ROLLBACK")
        failure = StateUnavailable(f"the gateway's state cannot be written: {error}; is the disk full?")
        return [failure] * len(group)
    return outcomes


def _run(writer: sqlite3.Connection, work: Work[Any]) -> Any:
    writer.execute("SAVEPOINT job")
    try:
        outcome = work(writer)
    except Exception as error:  # its caller gets it, the rest of the group continues
        if not writer.in_transaction:
            raise
        writer.execute("ROLLBACK TO job")
        outcome = error
    writer.execute("RELEASE job")
    return outcome


def _resolve(group: list[_Job], outcomes: list[Any]) -> None:
    for job, outcome in zip(group, outcomes, strict=True):
        if job.future.cancelled():
            continue
        if isinstance(outcome, sqlite3.Error):
            job.future.set_exception(StateUnavailable(f"the gateway's state cannot be written: {outcome}"))
        elif isinstance(outcome, BaseException):
            job.future.set_exception(outcome)
        else:
            job.future.set_result(outcome)


def _read(connection: sqlite3.Connection, work: Work[T]) -> T:
    try:
        connection.execute("BEGIN")
        try:
            return work(connection)
        finally:
            connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        raise StateUnavailable(f"the gateway's state cannot be read: {error}") from error


def _unavailable(path: Path, error: sqlite3.Error) -> StateUnavailable:
    return StateUnavailable(f"{path}: expected a state file of the gateway; {error}")
