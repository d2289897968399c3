"""`StoreByStartup`: which startup goes where, and how the stores affect each other; tests/contract has the rest."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

import pytest

from gateway.errors import StoreCrowded, StoreUnavailable, StoreUnreachable
from gateway.stores.by_startup import StoreByStartup
from gateway.stores.contract import Query
from gateway.stores.sqlite import SqliteStore
from tests.builders import startup
from tests.servers import WITHIN, eventually

OLD = b"climate,device=th-1 t=1.0 1"
NEW = b"climate,device=th-1 t=2.0 2"
IN_EAST, IN_DEFAULT = startup("acme", store="east"), startup("acme")


@pytest.fixture
def default(tmp_path: Path) -> SqliteStore:
    return SqliteStore(tmp_path / "default")


@pytest.fixture
def east(tmp_path: Path) -> SqliteStore:
    return SqliteStore(tmp_path / "east")


@pytest.fixture
async def store(default: SqliteStore, east: SqliteStore) -> AsyncIterator[StoreByStartup]:
    """acme is in the store east, birch in the default one."""
    store = StoreByStartup({None: default, "east": east}, [IN_EAST, startup("birch")])
    await store.open()
    yield store
    await store.close()


async def times(store: StoreByStartup | SqliteStore, slug: str = "acme") -> list[int]:
    """Return the times of a startup's readings in a store."""
    return [row.time_ns async for chunk in store.history(slug, Query("climate", 0, 10)) for row in chunk]


async def test_each_startup_is_in_its_own_store(store: StoreByStartup, default: SqliteStore, east: SqliteStore) -> None:
    """A startup is written to the store that its file names, and one without a name to the default store."""
    await store.write("acme", [OLD])
    await store.write("birch", [NEW])
    assert (await times(east), await times(east, "birch")) == ([1], [])
    assert (await times(default), await times(default, "birch")) == ([], [2])


async def test_assigned_store_gets_the_next_batch(
    store: StoreByStartup, default: SqliteStore, east: SqliteStore
) -> None:
    """A startup that is assigned to another store is written and read there; what it had stays in place."""
    await store.write("acme", [OLD])
    store.assign([IN_DEFAULT])
    await store.write("acme", [NEW])
    assert (await times(store), await times(default), await times(east)) == ([2], [2], [1])
    store.assign([IN_EAST])
    assert await times(store) == [1]


async def test_removed_startup_keeps_its_store(store: StoreByStartup, east: SqliteStore) -> None:
    """Readings that the journal still holds of a startup without a file go to the store that it had."""
    store.assign([startup("birch")])
    await store.write("acme", [OLD])
    assert await times(east) == [1]


async def test_store_added_after_the_start_waits_for_a_restart(store: StoreByStartup) -> None:
    """A name that the running gateway does not know makes the readings wait, and the error says what to do."""
    store.assign([startup("acme", store="west")])
    with pytest.raises(StoreUnavailable, match="store 'west' .*restart the gateway"):
        await store.write("acme", [OLD])
    with pytest.raises(StoreUnavailable, match="restart the gateway"):
        await times(store)
    await store.write("birch", [OLD])


async def test_readings_expire_in_every_store(store: StoreByStartup, default: SqliteStore, east: SqliteStore) -> None:
    """Readings in a store that a startup has left expire like those in its present one."""
    await store.write("acme", [OLD])
    store.assign([IN_DEFAULT])
    await store.write("acme", [OLD])
    for _ in range(2):  # the first call only notes the time
        await store.expire("acme", 2)
    assert (await times(default), await times(east)) == ([], [])


class Hanging(SqliteStore):
    """A store in which the writes and the expiry of some startups never end."""

    writes_at_once = 3

    def __init__(self, directory: Path, hanging: Collection[str]) -> None:
        super().__init__(directory)
        self.hanging = hanging
        self.hangs: Counter[str] = Counter()

    async def write(self, startup: str, lines: Sequence[bytes]) -> None:
        await self._hang(startup)
        await super().write(startup, lines)

    async def expire(self, startup: str, before_ns: int) -> None:
        await self._hang(startup)
        await super().expire(startup, before_ns)

    async def _hang(self, startup: str) -> None:
        if startup in self.hanging:
            self.hangs[startup] += 1
            await asyncio.Event().wait()


async def cancel(tasks: Collection[asyncio.Future[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_hanging_store_holds_up_only_its_own_startups(default: SqliteStore, tmp_path: Path) -> None:
    """However many writes hang in one store, another store is written; and of a startup only one hangs at a time."""
    hanging = Hanging(tmp_path / "hanging", ["acme"])
    store = StoreByStartup({None: default, "east": hanging}, [IN_EAST, startup("birch")])
    await store.open()
    writes = [asyncio.create_task(store.write("acme", [OLD])) for _ in range(9)]
    await eventually(lambda: hanging.hangs["acme"] == 1)
    async with asyncio.timeout(WITHIN):
        await store.write("birch", [OLD])
    assert hanging.hangs["acme"] == 1
    await cancel(writes)
    await store.close()


async def test_hanging_buckets_leave_the_slots_to_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More buckets hang than there are slots: the others are written all the same, and those that hang try again
    beside them."""
    monkeypatch.setattr("gateway.stores.write_slots.PATIENCE", 0.02)
    slugs = [f"hangs-{number}" for number in range(Hanging.writes_at_once + 2)]
    hanging = Hanging(tmp_path / "hanging", slugs)
    store = StoreByStartup({None: hanging})
    await store.open()
    for _ in range(2):
        writes = [asyncio.create_task(store.write(slug, [OLD])) for slug in slugs]
        await eventually(lambda: all(hanging.hangs[slug] for slug in slugs))
        async with asyncio.timeout(WITHIN):
            await store.write("acme", [OLD])
        await cancel(writes)
        hanging.hangs.clear()
    hanging.hanging = ()
    for slug in slugs:
        await store.write(slug, [OLD])
        assert await times(store, slug) == [1]
    await store.close()


async def test_slow_expiry_of_some_startups_does_not_delay_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many startups expire slowly, the readings of another expire."""
    monkeypatch.setattr("gateway.stores.write_slots.PATIENCE", 0.02)
    slugs = [f"hangs-{number}" for number in range(5)]
    hanging = Hanging(tmp_path / "hanging", slugs)
    store = StoreByStartup({None: hanging})
    await store.open()
    await store.write("acme", [OLD])
    expiring = [asyncio.create_task(store.expire(slug, 2)) for slug in slugs]
    await eventually(lambda: sum(hanging.hangs.values()) == len(slugs))
    async with asyncio.timeout(WITHIN):
        for _ in range(2):  # the first call only notes the time
            await store.expire("acme", 2)
    assert await times(store) == []
    await cancel(expiring)
    await store.close()


class Counting(SqliteStore):
    """A store that counts how often it was opened and closed."""

    opened = closed = 0

    async def open(self) -> None:
        await super().open()
        self.opened += 1

    async def close(self) -> None:
        await super().close()
        self.closed += 1


async def test_store_of_two_names_is_opened_once(tmp_path: Path) -> None:
    """A store that two names share is opened and closed once."""
    one = Counting(tmp_path / "one")
    store = StoreByStartup({None: one, "east": one})
    await store.open()
    await store.close()
    assert (one.opened, one.closed) == (1, 1)


async def test_store_that_cannot_be_opened_leaves_none_open(tmp_path: Path) -> None:
    """The error is raised, and the stores that were opened before are closed."""
    one = Counting(tmp_path / "one")
    (tmp_path / "file").touch()
    store = StoreByStartup({None: one, "east": SqliteStore(tmp_path / "file")})
    with pytest.raises(StoreUnavailable, match="cannot be created"):
        await store.open()
    assert (one.opened, one.closed) == (1, 1)


class Unreachable(SqliteStore):
    """A store at which nobody answers while it `is_away`."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.is_away = True
        self.asked = 0

    async def write(self, startup: str, lines: Sequence[bytes]) -> None:
        self.asked += 1
        if self.is_away:
            raise StoreUnreachable("nobody answers")
        await super().write(startup, lines)


async def test_unreachable_store_is_queried_once_for_all_its_startups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While nobody answers, hundreds of startups do not all try: each gets the error that one has found, and a second
    later one tries again."""
    away = Unreachable(tmp_path)
    store = StoreByStartup({None: away})
    await store.open()
    for slug in ("acme", "birch", "cedar"):
        with pytest.raises(StoreUnreachable, match="nobody answers"):
            await store.write(slug, [OLD])
    assert away.asked == 1
    away.is_away = False
    monkeypatch.setattr("gateway.stores.by_startup.ASK_AGAIN", 0.0)
    await store.write("acme", [OLD])
    await store.write("birch", [OLD])
    assert await times(store) == [1]
    await store.close()


async def test_queries_of_one_startup_leave_places_to_others(
    default: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many histories a startup has under way and does not read, another startup's is answered; a further one
    of its own is rejected with the reason."""
    monkeypatch.setattr("gateway.stores.by_startup.QUERIES", 6)
    monkeypatch.setattr("gateway.stores.by_startup.QUERY_WAIT", 0.01)
    store = StoreByStartup({None: default})
    await store.open()
    await store.write("acme", [OLD])
    await store.write("birch", [NEW])
    async with AsyncExitStack() as unread:
        for _ in range(3):
            chunks = await unread.enter_async_context(aclosing(store.history("acme", Query("climate", 0, 10))))
            await anext(chunks)
        with pytest.raises(StoreCrowded, match="queries of one startup") as raised:
            await store.measurements("acme")
        assert raised.value.is_own
        assert await times(store, "birch") == [2]
    assert await times(store) == [1]
    await store.close()
