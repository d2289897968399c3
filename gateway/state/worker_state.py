"""The state of one worker: its database, and everything in it. A gateway that is one process is one worker."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway.config.models import DeadLetterSettings, Settings
from gateway.model import Rejection
from gateway.state import dead_letters
from gateway.state.database import FILE_NAME, Database
from gateway.state.devices import DeviceRegistry
from gateway.state.journal import Journal
from gateway.state.lock import locked
from gateway.state.sequences import Sequences


@dataclass(frozen=True, slots=True)
class WorkerState:
    """The open database of a worker, its journal, its devices, and the bounds of its dead letters."""

    database: Database
    journal: Journal
    registry: DeviceRegistry
    sequences: Sequences
    bounds: DeadLetterSettings

    @classmethod
    def of(cls, directory: Path, settings: Settings, device_limits: Mapping[str, int]) -> WorkerState:
        """Return the state in a directory, to be opened. `device_limits` are devices by startup."""
        database = Database(directory / FILE_NAME)
        journal = Journal(database, settings.journal)
        return cls(database, journal, DeviceRegistry(database, device_limits), Sequences(), settings.dead_letters)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Hold the directory and open what is in it; in the end save the devices and close it.

        Raises:
            StateUnavailable: it cannot be opened, or another gateway has it.
        """
        async with AsyncExitStack() as stack:
            await asyncio.to_thread(stack.enter_context, locked(self.database.path.parent))
            await self.database.open()
            stack.push_async_callback(self.database.close)
            await self.journal.open()
            await self.registry.open()
            await self.database.read(self.sequences.load)
            stack.push_async_callback(self.registry.save_all)
            yield

    def keep(self, connection: sqlite3.Connection, rejections: Sequence[Rejection]) -> None:
        """Keep rejections as dead letters; runs inside `Database.write`."""
        dead_letters.insert(connection, rejections, self.bounds)
