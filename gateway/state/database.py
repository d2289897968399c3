"""State of the gateway on disk: one SQLite file, one writer thread, group commit.

On-disk format (`PRAGMA user_version` 1), WAL with synchronous=FULL, so that a commit that returned survives a
power cut:

    intake        accepted readings as they arrived, one row a commit, until they are sorted: `directory` is JSON,
                  {"acme": [readings, bytes], ...}, and `data` the blocks of these startups one after the other
    journal       accepted readings on their way to the store; one row per sorting and startup;
                  `lines` is line protocol, the lines separated by NUL, which no line can hold
    dead_letters  rejections with their raw bytes; `records` and `reasons` are JSON, `cut` the bytes of the payload that
                  were too many to be kept, `size` the bytes that the row takes
    letter_totals how many rejections are kept of each startup, their bytes, and how many were dropped
    refused_totals how many dead letters are readings that the store refused, and their bytes
    ledger        per startup, counts of records since the file was made, without those of the intake
    devices       when each device was first and last seen, and its counts
    series        the series keys that each startup has used
    types         the type of each field, and since when: see `gateway.state.field_types`
    undecided     messages that wait until the type of a field is certain
    damaged       rows of the others that cannot be read: see `gateway.state.damaged`
    sequences     the sequence numbers of each device and measurement; `kept` is JSON, see `gateway.state.sequences`

All callers of `write` that called while the last commit ran share one transaction, and the cost of one fsync. A piece
of work that fails is rolled back alone.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from gateway.errors import StateClosed, StateUnavailable
from gateway.state import damaged, dead_letters, mark, private_files, refused_letters
from gateway.state.group_commit import Job, Work, commit, look, resolve
from gateway.state.guard import Guard
from gateway.state.presence import WAL_LIMIT

T = TypeVar("T")

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
"""
_ADDED = """
CREATE TABLE IF NOT EXISTS sequences (startup TEXT NOT NULL, device TEXT NOT NULL, measurement TEXT NOT NULL,
    kept BLOB NOT NULL, PRIMARY KEY (startup, device, measurement)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS types (startup TEXT NOT NULL, measurement TEXT NOT NULL, field TEXT NOT NULL,
    type TEXT NOT NULL, device TEXT NOT NULL, since_ns INTEGER NOT NULL,
    PRIMARY KEY (startup, measurement, field)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS undecided (startup TEXT NOT NULL, stamp_ns INTEGER NOT NULL, measurement TEXT NOT NULL,
    topic TEXT NOT NULL, payload BLOB NOT NULL, PRIMARY KEY (startup, stamp_ns)) WITHOUT ROWID;
"""
"""Tables that files of an earlier build do not have."""


class Database:
    """`write` and `read` run a function over a connection, off the event loop."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._reader: sqlite3.Connection | None = None
        # One thread for all reads, and for closing: a read whose caller was cancelled still uses the connection.
        self._reading = ThreadPoolExecutor(1, "state-reader")
        self._thread: threading.Thread | None = None
        self._guard: Guard
        self.lost = asyncio.Event()
        """Set when the files are no longer at their path: see `gateway.state.guard`."""

    @property
    def problem(self) -> str:
        """Fate of the files, once they are lost; empty before."""
        return self._guard.problem

    async def open(self) -> None:
        """Create or open the file.

        Raises:
            StateUnavailable: it cannot be written, or a newer gateway made it.
        """
        self._loop = asyncio.get_running_loop()
        writer = await asyncio.to_thread(_open_writer, self.path)
        self._guard = await asyncio.to_thread(Guard, writer, self.path, self._note_lost)
        self._reader = await self._loop.run_in_executor(self._reading, _open_reader, self.path)
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

    async def write(self, work: Work[T], *, grows: bool = False) -> T:
        """Run `work` in a transaction that is on disk when this returns. Work that `grows` the state is rejected while
        the disk has too little room, and once the files are lost.

        Raises:
            StateUnavailable: nothing of it was written.
            StateClosed: after `close`.
        """
        if self._thread is None:
            raise StateClosed("the state database is closed")
        future: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put(Job(work, future, grows))
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

    async def check(self) -> None:
        """Look whether the files are still there, where nothing may have been written for a while."""
        await self.write(look)

    def _note_lost(self) -> None:
        self._loop.call_soon_threadsafe(self.lost.set)

    def _write_groups(self, writer: sqlite3.Connection) -> None:
        """Commit in the writer thread; all work submitted during one commit is the next group."""
        running = True
        while running:
            group: list[Job] = []
            job = self._jobs.get()
            while job is not None:
                group.append(job)
                try:
                    job = self._jobs.get_nowait()
                except Empty:
                    break
            running = job is not None
            if group:
                self._loop.call_soon_threadsafe(resolve, group, self._committed(writer, group))
        self._guard.close()

    def _committed(self, writer: sqlite3.Connection, group: list[Job]) -> list[Any]:
        """Commit a group; return an outcome for each job, whatever fails: the thread must live on."""
        try:
            return commit(writer, group, self._guard)
        except Exception as error:  # of any kind: of the files around the database, say
            return [StateUnavailable(f"the gateway's state cannot be written: {error!r}")] * len(group)


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
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
        connection.text_factory = _text
        return connection
    except sqlite3.Error as error:
        raise _unavailable(path, error) from error


def _open_reader(path: Path) -> sqlite3.Connection:
    """Connect, and open all files: they may be removed before the first read."""
    connection = _connect(path)
    _read(connection, lambda one: one.execute("SELECT count(*) FROM sqlite_master").fetchone())
    return connection


def _text(data: bytes) -> str:
    """Decode a text; a damaged one must not keep all others from being read."""
    return data.decode("utf-8", "replace")


def _open_writer(path: Path) -> sqlite3.Connection:
    try:
        private_files.make_directory(path.parent)
    except OSError as error:
        raise StateUnavailable(f"{path.parent}: expected a directory to keep state in; {error.strerror}") from error
    mark.check(path)
    private_files.make_file(path)
    connection = _connect(path)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT}")
        connection.execute("PRAGMA secure_delete = OFF")  # to overwrite what is deleted takes time, and room
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {FORMAT}; COMMIT;")
        elif version == FORMAT:
            dead_letters.add_sizes(connection)
        if version <= FORMAT:
            refused_letters.prepare(connection)
            connection.executescript(f"BEGIN; {_ADDED} COMMIT;")
            damaged.sift(connection)
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
