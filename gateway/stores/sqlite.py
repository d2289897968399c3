"""Embedded store: a SQLite file for each startup, and threads to use it from the event loop.

Invariants:

- Each startup has a file and threads of its own: one that writes, one that reads. So no startup waits for another.
- Writes of a startup follow one another. A query reads its own snapshots by its own connection: it never makes a write
  wait, however long it takes.
- The thread that reads only runs SQL, during which SQLite releases the interpreter's lock; queries of a startup take
  turns in it. What it finds is turned into rows by `gateway.computing`, with all that requests compute.
- After a fault of the file the next write opens it again; likewise after somebody deleted, replaced or cut it, or one
  of the files beside it. A write during which that happened has failed.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from gateway.computing import Computing
from gateway.errors import StoreRefused, StoreUnavailable
from gateway.logs import get_logger
from gateway.model import Reading
from gateway.state import private_files
from gateway.state.presence import Presence
from gateway.stores import sqlite_reader, sqlite_schema
from gateway.stores.contract import Columns, Query, Row
from gateway.stores.sqlite_expiry import Expiry
from gateway.stores.sqlite_reader import Part
from gateway.stores.sqlite_writer import Writer

T = TypeVar("T")

BYTES_AT_ONCE = 4 << 20
"""Bytes of lines in one write."""
log = get_logger(__name__)


class SqliteStore:
    """Readings in `directory`, one file per startup. A `stores.contract.Store`."""

    writes_at_once = 1
    """A write computes in Python: several at once would not be faster, and keep the event loop waiting."""

    def __init__(self, directory: Path, computing: Computing | None = None) -> None:
        self._directory = directory
        self._computing = computing or Computing()
        self._lanes: dict[str, _Lane] = {}

    def bytes_at_once(self, _startup: str) -> int:
        """See `Store.bytes_at_once`."""
        return BYTES_AT_ONCE

    async def open(self) -> None:
        """Create the directory; each file is created at its startup's first write.

        Raises:
            StoreUnavailable: the directory cannot be created.
        """
        try:
            await asyncio.to_thread(private_files.make_directory, self._directory)
        except OSError as error:
            raise StoreUnavailable(f"{self._directory}: cannot be created: {error.strerror}") from error

    async def close(self) -> None:
        """Wait for the writes under way, then close every file."""
        lanes, self._lanes = list(self._lanes.values()), {}
        for lane in lanes:
            await lane.close()

    async def write(self, startup: str, lines: Sequence[bytes]) -> None:
        """Write all lines, or none. See `Store.write`."""
        await self._lane(startup).write(lines)

    async def expire(self, startup: str, before_ns: int) -> None:
        """Delete older readings, a series at a time. See `Store.expire`."""
        await self._lane(startup).expire(before_ns)

    async def measurements(self, startup: str) -> list[str]:
        """See `Store.measurements`."""
        async with self._lane(startup).reading() as session:
            return await session.call(sqlite_reader.measurements, [])

    async def check_readable(self, startup: str) -> None:
        """Do nothing: there are no rights. See `Store.check_readable`."""

    async def columns(self, startup: str, measurement: str) -> Columns:
        """See `Store.columns`."""
        async with self._lane(startup).reading() as session:
            return await session.call(
                lambda connection: sqlite_reader.columns(connection, measurement), Columns((), ())
            )

    async def history(self, startup: str, query: Query) -> AsyncGenerator[list[Row]]:
        """See `Store.history`."""
        async with aclosing(self._parts(startup, lambda connection: sqlite_reader.history(connection, query))) as parts:
            async for several in parts:
                yield await self._computing.run(startup, partial(sqlite_reader.rows, several))

    async def latest(self, startup: str) -> AsyncGenerator[list[Reading]]:
        """See `Store.latest`."""
        async with aclosing(self._parts(startup, sqlite_reader.latest)) as parts:
            async for several in parts:
                yield await self._computing.run(startup, partial(sqlite_reader.readings, startup, several))

    async def _parts(
        self, startup: str, query: Callable[[sqlite3.Connection], Iterator[list[Part]]]
    ) -> AsyncGenerator[list[Part]]:
        """Yield what a query finds, as SQLite returns it."""
        async with self._lane(startup).reading() as session:
            none: Iterator[list[Part]] = iter(())
            parts = await session.call(query, none)
            while (several := await session.call(lambda _: next(parts, None), None)) is not None:
                yield several

    def _lane(self, startup: str) -> _Lane:
        lane = self._lanes.get(startup)
        if lane is None:
            lane = self._lanes[startup] = _Lane(startup, self._directory / f"{startup}.db")
        return lane


class _Lane:
    """One startup's file and threads."""

    def __init__(self, startup: str, path: Path) -> None:
        self._path = path
        self._writing = ThreadPoolExecutor(1, f"sqlite-write-{startup}")
        self._reading = ThreadPoolExecutor(1, f"sqlite-read-{startup}")
        self._writer: Writer | None = None
        self._presence: Presence | None = None
        self._expiry = Expiry(startup)

    async def write(self, lines: Sequence[bytes]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._writing, self._write, lines)

    async def expire(self, before_ns: int) -> None:
        await asyncio.get_running_loop().run_in_executor(self._writing, self._expire, before_ns)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[_Session]:
        """Yield a session for one query, and close its connection in any case."""
        session = _Session(self._path, self._reading)
        try:
            yield session
        finally:
            await session.close()

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._writing, self._close_writer)
        self._writing.shutdown(wait=False)
        self._reading.shutdown(wait=False)

    def _write(self, lines: Sequence[bytes]) -> None:
        with self._open_writer() as writer:
            writer.write(lines)
            if problem := self._check():
                raise StoreUnavailable(f"{problem} while it was written: the same readings are written again")

    def _expire(self, before_ns: int) -> None:
        with _explained(self._path):
            if not self._path.exists():
                return
        with self._open_writer() as writer:
            self._expiry.run(writer, before_ns)

    @contextmanager
    def _open_writer(self) -> Iterator[Writer]:
        """Yield the writer, opened if need be. After an error of SQLite it is closed, with what it remembers."""
        with _explained(self._path):
            try:
                self._check()
                if self._writer is None:
                    with suppress(OSError):  # SQLite says why it cannot open a file there
                        private_files.make_directory(self._path.parent)
                    self._writer = Writer(self._path)
                    self._presence = Presence(self._path)
                yield self._writer
            except sqlite3.Error:
                self._close_writer()
                raise

    def _check(self) -> str:
        """Return what has become of the open files; close them then: SQLite goes on writing into what was deleted."""
        problem = self._presence.problem() if self._presence else ""
        if problem:
            log.warning("store file lost", problem=problem, next="the file is opened again, or a new one is made")
            self._close_writer()
        return problem

    def _close_writer(self) -> None:
        self._presence = None
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class _Session:
    """One connection that reads, opened at its first call; one call at a time, in the lane's threads."""

    def __init__(self, path: Path, threads: ThreadPoolExecutor) -> None:
        self._path = path
        self._threads = threads
        self._connection: sqlite3.Connection | None = None
        self._running: asyncio.Future[Any] | None = None

    async def call(self, read: Callable[[sqlite3.Connection], T], nothing: T) -> T:
        """Return what `read` finds, or `nothing` where the startup has no file yet.

        Raises:
            StoreUnavailable: the file cannot be read.
        """
        running = asyncio.get_running_loop().run_in_executor(self._threads, self._read, read, nothing)
        self._running = running
        return await asyncio.shield(running)

    async def close(self) -> None:
        """Interrupt a call that was cancelled, and close the connection."""
        if self._running is not None:
            if self._connection is not None:
                self._connection.interrupt()
            await asyncio.gather(self._running, return_exceptions=True)
        if self._connection is not None:
            await asyncio.to_thread(self._connection.close)

    def _read(self, read: Callable[[sqlite3.Connection], T], nothing: T) -> T:
        with _explained(self._path):
            if self._connection is None:
                self._connection = sqlite_schema.open_for_reading(self._path)
            return nothing if self._connection is None else read(self._connection)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Translate SQLite's errors: a fault of the file is temporary, a value that is too big for SQLite is not."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code == sqlite3.SQLITE_TOOBIG:
            raise StoreRefused(f"{path.name}: {error}") from error
        advice = f" ({_ADVICE[code]})" if code in _ADVICE else ""
        raise StoreUnavailable(f"{path}: {error}{advice}") from error
    except OSError as error:
        raise StoreUnavailable(f"{path}: {error.strerror or error}") from error


_ADVICE = {
    sqlite3.SQLITE_BUSY: "another program has it open for writing",
    sqlite3.SQLITE_FULL: "the disk is full: free some space",
    sqlite3.SQLITE_IOERR: "the disk failed: see the system's log",
    sqlite3.SQLITE_CANTOPEN: "does the directory exist, and may the gateway write there?",
    sqlite3.SQLITE_READONLY: "may the gateway write this file and its directory?",
    sqlite3.SQLITE_PERM: "may the gateway write this file and its directory?",
    sqlite3.SQLITE_CORRUPT: "restore it from a backup, or move it away to start a new one",
    sqlite3.SQLITE_NOTADB: "restore it from a backup, or move it away to start a new one",
}
