"""Types of fields, in memory and on disk, for one engine."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from gateway.errors import StateUnavailable
from gateway.logs import get_logger
from gateway.rules.field_types import FieldTypes
from gateway.state import field_types
from gateway.state.database import Database
from gateway.state.reader import StateReader

log = get_logger(__name__)


class StoredTypes:
    """`load` them before they are `known` to a pipeline; the rounds write new ones down."""

    def __init__(self, database: Database, state_dir: Path) -> None:
        self._database = database
        self._state = StateReader(state_dir)
        self.known = FieldTypes()

    async def load(self) -> None:
        """Read the types of fields: those of all workers, since a startup may have been another's."""
        try:
            rows = await asyncio.to_thread(self._state.types)
        except StateUnavailable as error:
            log.warning("types of fields not read", problem=str(error), next="only those of this worker count")
            rows = await self._database.read(field_types.types)
        self.known.load(rows)

    async def forget(self, startup: str, measurement: str, name: str) -> int:
        """Forget the type of a field, or of all fields of the measurement if the name is empty; return how many.

        Raises:
            StateUnavailable: nothing is forgotten.
        """
        gone = self.known.forgotten(startup, measurement, name, time.time_ns())
        if gone:
            await self._database.write(lambda connection: field_types.keep(connection, gone))
            self.known.load(gone)
        return len(gone)
