"""From the journal to the store, one lane a startup, so that none waits for another.

A few times a second what has arrived is sorted by startup; `gateway.stores.lane` does the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from gateway.config.models import DrainSettings
from gateway.errors import StateUnavailable
from gateway.logs import get_logger
from gateway.model import Listener
from gateway.state.worker_state import WorkerState
from gateway.stores.contract import Store
from gateway.stores.lane import Lane, LaneState

log = get_logger(__name__)


class Drain:
    """All lanes. `listener` is notified of the points that the store refused."""

    def __init__(self, state: WorkerState, store: Store, settings: DrainSettings, listener: Listener) -> None:
        self._state = state
        self._journal = state.journal
        self._store = store
        self._settings = settings
        self._listener = listener
        self._stopping = asyncio.Event()
        self._is_sorted = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None
        self._early: set[str] = set()
        """Startups that were added before `run`."""
        self._lanes: dict[str, Lane] = {}

    @property
    def states(self) -> Mapping[str, LaneState]:
        return {startup: lane.state for startup, lane in self._lanes.items()}

    def stopped(self) -> dict[str, bool]:
        """Return whether each lane has stopped. Another thread may call it."""
        return {startup: lane.state.is_stopped for startup, lane in list(self._lanes.items())}

    def release(self, startup: str) -> bool:
        """Let a stopped lane go on: whatever the store refuses of the readings that wait becomes dead letters. Return
        whether it was stopped."""
        lane = self._lanes.get(startup)
        if lane is None or not lane.state.is_stopped:
            return False
        lane.release()
        return True

    async def run(self, startups: Iterable[str]) -> None:
        """Work until `stop`, then until the journal is empty. Removed startups that left readings have lanes too."""
        async with asyncio.TaskGroup() as self._tasks:
            self.add({*startups, *self._early, *self._journal.startups()})
            sorting = self._tasks.create_task(self._sort(), name="drain-sort")
            await self._stopping.wait()
            sorting.cancel()
            await self._try_to_sort()
            self._is_sorted.set()
            self._journal.wake_all()

    def add(self, startups: Iterable[str]) -> None:
        """Open lanes for startups that have none yet, unless it is time to stop."""
        if self._stopping.is_set():
            return
        if self._tasks is None:
            self._early |= set(startups)
            return
        for startup in sorted(set(startups) - self._lanes.keys()):
            lane = self._lanes[startup] = Lane(startup, self._state, self._store, self._settings, self._listener)
            self._tasks.create_task(lane.run(self._is_sorted), name=f"drain-{startup}")

    def stop(self) -> None:
        """Store the rest, then end."""
        self._stopping.set()

    async def _sort(self) -> None:
        """Let a batch grow for a moment, then give each lane the readings of its startup."""
        while True:
            await self._journal.arrived()
            await asyncio.sleep(self._settings.interval)
            await self._try_to_sort()

    async def _try_to_sort(self) -> None:
        try:
            await self._journal.sort()
        except StateUnavailable as error:  # ingest, which writes the same file all the time, reports it
            log.debug("the journal is not sorted", problem=str(error))
