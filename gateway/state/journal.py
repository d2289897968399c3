"""Bounded queue on disk between accepting a reading and storing it.

Two steps, so that the cost of a commit does not grow with the number of startups in it: `append` adds the readings of
a batch as one row of the intake, for all startups; a few times a second `sort` moves the intake into rows of one
startup each, which the lanes take and remove.

Invariants: appended readings can be taken, in the order of their startup, until they are removed, across restarts;
none is ever dropped to make room: `room` makes the writer wait instead. A startup is full before the whole is: see
`SHARE`. The rows are described in `gateway.state.database`.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from pydantic_core import to_json

from gateway.config.models import JournalSettings
from gateway.errors import StateUnavailable
from gateway.model import Counts
from gateway.state import damaged_readings, ledger
from gateway.state.database import Database
from gateway.state.room import free_bytes

SEPARATOR = b"\0"
SORT_AT_ONCE = 32 << 20
"""Bytes of the intake that one transaction sorts, so that memory is bounded."""
TAKE_AT_ONCE = 4 << 20
"""Bytes that a lane takes at once: it holds them for as long as its store is away."""
ROW = 1 << 20
"""Bytes of the blocks that a row of the journal joins, so that a lane can take few enough."""
SHARE = 3
"""A startup may hold this many times what is still free. Alone it gets three quarters of the journal, two whose stores
are away three sevenths each; however many are away, the others find room."""


class Block(NamedTuple):
    """Readings of one startup for the journal: `data` is `readings` lines of line protocol, separated by NUL."""

    readings: int
    data: bytes

    @classmethod
    def of(cls, lines: Sequence[str]) -> Block:
        return cls(len(lines), "\0".join(lines).encode())


class Entry(NamedTuple):
    """Readings of one startup from one sorting: `readings` lines of line protocol. `id` grows with time."""

    id: int
    readings: int
    block: bytes

    @property
    def lines(self) -> list[bytes]:
        return self.block.split(SEPARATOR)


class Held(NamedTuple):
    """Content of the journal for one startup."""

    readings: int = 0
    bytes: int = 0


class Journal:
    """Append, take, remove. The functions that take a connection run inside `Database.write`."""

    def __init__(self, database: Database, settings: JournalSettings) -> None:
        self._database = database
        self._settings = settings
        self._filled: dict[str, asyncio.Event] = {}
        self._changed = asyncio.Condition()
        self._arrived = asyncio.Event()
        self._held: dict[str, Held] = {}
        self.readings = 0
        self.bytes = 0

    async def open(self) -> None:
        """Sort and count what an earlier run left."""
        while (await self._database.write(self._sort_some)) is not None:
            pass
        left = await self._database.read(_totals)
        for startup, readings, size in left:
            self._count(startup, readings, size)
            self._event(startup).set()

    @property
    def is_full(self) -> bool:
        return self.readings >= self._settings.max_readings or self.bytes >= self._settings.max_size

    def held(self, startup: str) -> Held:
        """Return what is held of one startup."""
        return self._held.get(startup, Held())

    def is_full_for(self, startup: str) -> bool:
        """Return whether a startup has filled its share, or all together the whole."""
        held, settings = self.held(startup), self._settings
        return (
            held.bytes >= SHARE * (settings.max_size - self.bytes)
            or held.readings >= SHARE * (settings.max_readings - self.readings)
            or self.is_full
        )

    def startups(self) -> list[str]:
        """Return the startups that have, or had, readings here."""
        return list(self._filled)

    async def room(self) -> None:
        """Wait until the journal is below its bounds."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self.is_full)

    @staticmethod
    def append(connection: sqlite3.Connection, blocks: Mapping[str, Block]) -> None:
        """Add each startup's readings; runs inside `Database.write`."""
        directory = {startup: (block.readings, len(block.data)) for startup, block in blocks.items()}
        data = b"".join([block.data for block in blocks.values()])
        connection.execute("INSERT INTO intake (directory, data) VALUES (?, ?)", (to_json(directory).decode(), data))

    def appended(self, blocks: Mapping[str, Block]) -> None:
        """Count the blocks after the commit of `append`, and let them be sorted."""
        for startup, block in blocks.items():
            self._count(startup, block.readings, len(block.data))
        if blocks:
            self._arrived.set()

    async def arrived(self) -> None:
        """Wait until there is something to sort."""
        await self._arrived.wait()

    async def sort(self) -> None:
        """Move the intake into the lanes, count it as accepted, and wake them.

        Raises:
            StateUnavailable: unsorted readings wait in the intake.
        """
        self._arrived.clear()
        try:
            while (moved := await self._database.write(self._sort_some)) is not None:
                for startup, (readings, added) in moved.items():
                    self._count(startup, readings, added)
                    self._event(startup).set()
        except StateUnavailable:
            self._arrived.set()
            raise

    async def filled(self, startup: str) -> None:
        """Wait until there are readings of this startup."""
        await self._event(startup).wait()

    async def take(self, startup: str, limit: int, size: int = TAKE_AT_ONCE) -> list[Entry]:
        """Return the oldest entries, up to about `limit` readings or `size` bytes; they stay until removed."""
        filled = self._event(startup)
        filled.clear()  # before reading, so that readings appended meanwhile are not overlooked
        while True:
            entries = await self._database.read(lambda connection: _oldest(connection, startup, limit, size))
            wrong = [one.id for one in entries if not damaged_readings.is_sound(one.readings, one.block)]
            if not wrong:
                break
            mend = partial(damaged_readings.mend, startup=startup, idents=wrong)
            self._count(startup, await self._database.write(mend), 0)
        if entries:
            filled.set()
        return entries

    async def newest(self, startup: str, limit: int) -> list[bytes]:
        """Return the newest `limit` lines of the latest entry; they stay."""
        entry = await self._database.read(lambda connection: _newest(connection, startup))
        return entry.lines[-limit:] if entry else []

    def wake_all(self) -> None:
        """End every wait in `filled`, because the gateway stops."""
        for event in self._filled.values():
            event.set()

    @staticmethod
    def remove(connection: sqlite3.Connection, entries: Iterable[Entry]) -> None:
        """Delete entries that are stored or dead-lettered."""
        connection.executemany("DELETE FROM journal WHERE id = ?", [(entry.id,) for entry in entries])

    async def removed(self, startup: str, entries: Iterable[Entry]) -> None:
        """Count the entries out after the commit of `remove`, and wake those who wait for room."""
        async with self._changed:
            for entry in entries:
                self._count(startup, -entry.readings, -len(entry.block))
            self._changed.notify_all()

    def _sort_some(self, connection: sqlite3.Connection) -> dict[str, tuple[int, int]] | None:
        """Sort as much as the disk has room for: what is moved is there twice, and in the write-ahead log."""
        room = free_bytes(self._database.path.parent) // 4
        return _sort(connection, min(SORT_AT_ONCE, room))

    def _count(self, startup: str, readings: int, size: int) -> None:
        self.readings += readings
        self.bytes += size
        held = self.held(startup)
        self._held[startup] = Held(held.readings + readings, held.bytes + size)

    def _event(self, startup: str) -> asyncio.Event:
        return self._filled.setdefault(startup, asyncio.Event())


def _sort(connection: sqlite3.Connection, at_once: int) -> dict[str, tuple[int, int]] | None:
    """Sort the oldest part of the intake; return, by startup, the readings and bytes that it now holds more than was
    counted when they were appended; None where there was nothing to sort. The bytes are the separators that join
    blocks; damaged rows take what was in them."""
    parts: dict[str, list[Block]] = {}
    lost: dict[str, tuple[int, int]] = {}
    last_id = size = 0
    for ident, directory, data in connection.execute("SELECT id, directory, data FROM intake ORDER BY id"):
        blocks = damaged_readings.blocks(directory, data)
        if blocks is None:
            damaged_readings.set_intake_aside(connection, directory, data, lost)
        else:
            for startup, count, part in blocks:
                parts.setdefault(startup, []).append(Block(count, part))
            size += len(data)
        last_id = ident
        if size >= at_once:
            break
    if not last_id:
        return None
    rows = [(startup, *row) for startup, several in parts.items() for row in _rows(several)]
    connection.executemany("INSERT INTO journal (startup, readings, lines) VALUES (?, ?, ?)", rows)
    connection.execute("DELETE FROM intake WHERE id <= ?", (last_id,))
    readings = {startup: sum(block.readings for block in several) for startup, several in parts.items()}
    ledger.add(connection, {startup: Counts(received=count, accepted=count) for startup, count in readings.items()})
    separators = {startup: len(several) for startup, several in parts.items()}
    for startup, *_ in rows:
        separators[startup] -= 1
    gone = {startup: (-count, -taken) for startup, (count, taken) in lost.items()}
    return {
        startup: (gone.get(startup, (0, 0))[0], gone.get(startup, (0, 0))[1] + separators.get(startup, 0))
        for startup in {*separators, *gone}
    }


def _rows(blocks: Iterable[Block]) -> Iterator[Block]:
    """Join blocks of one startup into rows of about `ROW` bytes."""
    joined: list[bytes] = []
    readings = size = 0
    for block in blocks:
        if joined and size + len(block.data) > ROW:
            yield Block(readings, SEPARATOR.join(joined))
            joined, readings, size = [], 0, 0
        joined.append(block.data)
        readings += block.readings
        size += len(block.data)
    yield Block(readings, SEPARATOR.join(joined))


def _totals(connection: sqlite3.Connection) -> list[tuple[str, int, int]]:
    query = "SELECT startup, sum(readings), sum(length(lines)) FROM journal GROUP BY startup"
    return connection.execute(query).fetchall()


def _newest(connection: sqlite3.Connection, startup: str) -> Entry | None:
    query = "SELECT id, readings, lines FROM journal WHERE startup = ? ORDER BY id DESC LIMIT 1"
    row = connection.execute(query, (startup,)).fetchone()
    return Entry(*row) if row else None


def _oldest(connection: sqlite3.Connection, startup: str, limit: int, most: int) -> list[Entry]:
    query = "SELECT id, readings, lines FROM journal WHERE startup = ? ORDER BY id"
    entries: list[Entry] = []
    readings = size = 0
    for row in connection.execute(query, (startup,)):
        entries.append(Entry(*row))
        readings += entries[-1].readings
        size += len(entries[-1].block)
        if readings >= limit or size >= most:
            break
    return entries
