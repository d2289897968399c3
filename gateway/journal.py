"""The bounded queue on disk between accepting a reading and storing it.

Invariants: what was appended is taken, in order, until it is removed, across restarts; nothing appended is ever
dropped to make room: `room` makes the writer wait instead. The rows are described in `gateway.database`.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from gateway.config.models import JournalSettings
from gateway.database import Database

SEPARATOR = b"\0"


class Entry(NamedTuple):
    """What one commit brought of one startup: `readings` lines of line protocol. `id` grows with time."""

    id: int
    readings: int
    block: bytes

    @property
    def lines(self) -> list[bytes]:
        return self.block.split(SEPARATOR)


class Journal:
    """Append, take, remove. The functions that get a connection run inside `Database.write`."""

    def __init__(self, database: Database, settings: JournalSettings) -> None:
        self._database = database
        self._settings = settings
        self._filled: dict[str, asyncio.Event] = {}
        self._changed = asyncio.Condition()
        self.readings = 0
        self.bytes = 0

    async def open(self) -> None:
        """Find what an earlier run left."""
        left = await self._database.read(_totals)
        for startup, readings, size in left:
            self._count(startup, readings, size)

    @property
    def is_full(self) -> bool:
        return self.readings >= self._settings.max_readings or self.bytes >= self._settings.max_size

    def startups(self) -> list[str]:
        """Those that have something here, or had."""
        return list(self._filled)

    async def room(self) -> None:
        """Wait until the journal is below its bounds."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self.is_full)

    @staticmethod
    def append(connection: sqlite3.Connection, lines: Mapping[str, Sequence[bytes]]) -> None:
        """Add the lines of each startup."""
        rows = [(startup, len(several), SEPARATOR.join(several)) for startup, several in lines.items()]
        connection.executemany("INSERT INTO journal (startup, readings, lines) VALUES (?, ?, ?)", rows)

    def appended(self, lines: Mapping[str, Sequence[bytes]]) -> None:
        """After the commit of `append`: count it, and wake the lanes."""
        for startup, several in lines.items():
            self._count(startup, len(several), sum(map(len, several)) + len(several) - 1)

    async def filled(self, startup: str) -> None:
        """Wait until there is something of this startup."""
        await self._event(startup).wait()

    async def take(self, startup: str, limit: int) -> list[Entry]:
        """The oldest entries, up to about `limit` readings; they stay until they are removed."""
        filled = self._event(startup)
        filled.clear()  # before the look, so that what is appended meanwhile is not overlooked
        entries = await self._database.read(lambda connection: _oldest(connection, startup, limit))
        if entries:
            filled.set()
        return entries

    def wake_all(self) -> None:
        """Let everybody who waits in `filled` go on, because the gateway stops."""
        for event in self._filled.values():
            event.set()

    @staticmethod
    def remove(connection: sqlite3.Connection, entries: Iterable[Entry]) -> None:
        """Forget entries that are stored or dead-lettered."""
        connection.executemany("DELETE FROM journal WHERE id = ?", [(entry.id,) for entry in entries])

    async def removed(self, entries: Iterable[Entry]) -> None:
        """After the commit of `remove`: make room for who waits for it."""
        async with self._changed:
            for entry in entries:
                self.readings -= entry.readings
                self.bytes -= len(entry.block)
            self._changed.notify_all()

    def _count(self, startup: str, readings: int, size: int) -> None:
        self.readings += readings
        self.bytes += size
        self._event(startup).set()

    def _event(self, startup: str) -> asyncio.Event:
        return self._filled.setdefault(startup, asyncio.Event())


def _totals(connection: sqlite3.Connection) -> list[tuple[str, int, int]]:
    query = "SELECT startup, sum(readings), sum(length(lines)) FROM journal GROUP BY startup"
    return connection.execute(query).fetchall()


def _oldest(connection: sqlite3.Connection, startup: str, limit: int) -> list[Entry]:
    query = "SELECT id, readings, lines FROM journal WHERE startup = ? ORDER BY id"
    entries: list[Entry] = []
    readings = 0
    for row in connection.execute(query, (startup,)):
        entries.append(Entry(*row))
        readings += entries[-1].readings
        if readings >= limit:
            break
    return entries
