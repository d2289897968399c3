"""Several stores, each startup in the one that its file names: for more startups than one InfluxDB can serve.

Invariants:

- When a startup's file names another store, its next batch and query go there. What was stored before stays in place.
- A store that hangs holds up only its own startups, and a startup's bucket or file that hangs only that startup: see
  `gateway.stores.write_slots`.
- A startup has a few queries at a time, and never so many that another finds no place: see `gateway.shares`.
- Data that expires slowly for one startup expires in time for the others: see `expire`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import NamedTuple

from gateway.computing import Computing
from gateway.config import Startup
from gateway.errors import Crowded, StoreCrowded, StoreUnavailable, StoreUnreachable
from gateway.model import Reading
from gateway.shares import Shares
from gateway.stores.contract import Columns, Query, Row, Store
from gateway.stores.write_slots import WriteSlots

ASK_AGAIN = 1.0
"""Seconds until an unreachable store is tried again: all of its startups would find the same."""

EXPIRE_AT_ONCE = 2
QUERIES = 64
"""Queries to one store at a time, ..."""
QUERIES_EACH = 8
"""... and of one startup."""
QUERY_WAIT = 10.0
"""Seconds that a query waits for one to end."""


class _Away(NamedTuple):
    error: StoreUnreachable
    since: float


class StoreByStartup:
    """A `stores.contract.Store` over `stores`, by name; None names the default one. Two names may share a store.

    `computing` is the thread that they share with whoever makes answers of what they find.
    """

    writes_at_once = 1_000
    """Each of the stores has a bound of its own."""

    def __init__(
        self,
        stores: Mapping[str | None, Store],
        startups: Iterable[Startup] = (),
        computing: Computing | None = None,
    ) -> None:
        self._stores = stores
        self.computing = computing or Computing()
        self._slots = {store: WriteSlots(store.writes_at_once) for store in stores.values()}
        self._queries = {store: Shares("queries", QUERIES_EACH, QUERIES) for store in stores.values()}
        self._expiring = {store: WriteSlots(EXPIRE_AT_ONCE) for store in stores.values()}
        self._names: dict[str, str | None] = {}
        self._away: dict[Store, _Away] = {}
        self.assign(startups)

    def assign(self, startups: Iterable[Startup]) -> None:
        """Send each startup to the store that it names now. A removed one keeps its store: the journal may still hold
        readings of it.
        """
        self._names.update((startup.slug, startup.store) for startup in startups)

    def bytes_at_once(self, startup: str) -> int:
        """See `Store.bytes_at_once`."""
        store = self._stores.get(self._names.get(startup), self._stores[None])
        return store.bytes_at_once(startup)

    async def open(self) -> None:
        """Open every store, or none."""
        async with AsyncExitStack() as opened:
            for store in self._slots:
                await store.open()
                opened.push_async_callback(store.close)
            self._opened = opened.pop_all()

    async def close(self) -> None:
        """Close every store, even where another fails to close."""
        await self._opened.aclose()

    async def write(self, startup: str, lines: Sequence[bytes]) -> None:
        """See `Store.write`."""
        store = self._store(startup)
        async with self._slots[store].slot(startup):
            if (away := self._away.get(store)) and time.monotonic() - away.since < ASK_AGAIN:
                raise StoreUnreachable(str(away.error))
            try:
                await store.write(startup, lines)
            except StoreUnreachable as error:
                self._away[store] = _Away(error, time.monotonic())
                raise
            self._away.pop(store, None)

    async def measurements(self, startup: str) -> list[str]:
        """See `Store.measurements`."""
        async with self._querying(startup) as store:
            return await store.measurements(startup)

    async def check_readable(self, startup: str) -> None:
        """See `Store.check_readable`."""
        async with self._querying(startup) as store:
            await store.check_readable(startup)

    async def columns(self, startup: str, measurement: str) -> Columns:
        """See `Store.columns`."""
        async with self._querying(startup) as store:
            return await store.columns(startup, measurement)

    async def history(self, startup: str, query: Query) -> AsyncGenerator[list[Row]]:
        """See `Store.history`."""
        async with self._querying(startup) as store, aclosing(store.history(startup, query)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def expire(self, startup: str, before_ns: int) -> None:
        """Expire them in every store, those that the startup has left too. See `Store.expire`."""
        for store, slots in self._expiring.items():
            async with slots.slot(startup):
                await store.expire(startup, before_ns)

    async def latest(self, startup: str) -> AsyncGenerator[list[Reading]]:
        """See `Store.latest`."""
        async with self._querying(startup) as store, aclosing(store.latest(startup)) as chunks:
            async for chunk in chunks:
                yield chunk

    @asynccontextmanager
    async def _querying(self, startup: str) -> AsyncIterator[Store]:
        """Hold a place for a query, and yield the startup's store.

        Raises:
            StoreCrowded: there is none.
        """
        store = self._store(startup)
        async with AsyncExitStack() as held:
            try:
                await held.enter_async_context(self._queries[store].place_within(startup, QUERY_WAIT))
            except Crowded as error:
                raise StoreCrowded(str(error), is_own=error.is_own) from None
            yield store

    def _store(self, startup: str) -> Store:
        name = self._names.get(startup)
        if name not in self._stores:
            raise StoreUnavailable(
                f"the store {name!r} was added to gateway.yaml after the start: restart the gateway. The readings wait"
                " meanwhile"
            )
        return self._stores[name]
