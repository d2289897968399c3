"""Rejections are counted into each startup's own store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from gateway.errors import StoreUnavailable
from gateway.feeds.rejection_counts import RejectionCounter
from gateway.model import UNROUTED, Code, Reason, Rejection
from gateway.stores.contract import Query
from gateway.stores.sqlite import SqliteStore
from tests.servers import eventually


def rejection(startup: str, device: str, *codes: Code, records: tuple[int, ...] = ()) -> Rejection:
    reasons = tuple(Reason(code, "/t", "a number", "nothing") for code in codes)
    return Rejection(startup, device, f"testbed/{startup}/{device}/climate", b"", 1, reasons, records)


async def counted(store: SqliteStore, startup: str) -> list[tuple[dict[str, str], object]]:
    query = Query("gateway_rejections", 0, 1 << 62)
    rows = [row async for chunk in store.history(startup, query) for row in chunk]
    return [(dict(row.tags), row.fields["count"]) for row in rows]


async def test_codes_are_counted_by_device_and_startup(tmp_path: Path) -> None:
    """Each startup gets the counts of its own devices alone, by code; an invalid device is not named."""
    store = SqliteStore(tmp_path)
    await store.open()
    counter = RejectionCounter(
        store, lambda _startup, device: len(device) == 1, lambda topic: "climate" if topic else ""
    )
    counter.rejected(
        [rejection("acme", "a", Code.MISSING, Code.MISSING, Code.BAD_TIME), rejection("acme", "a", Code.MISSING)]
    )
    counter.rejected(
        [rejection("acme", "no name", Code.BAD_DEVICE), rejection("birch", "b", Code.MISSING, records=(1, 4))]
    )
    counter.rejected([rejection(UNROUTED, "x", Code.NO_RULE)])
    await counter.write()
    await counter.write()
    assert sorted(await counted(store, "acme"), key=str) == [
        ({"code": "bad_device", "measurement": "climate"}, 1),
        ({"code": "bad_time", "device": "a", "measurement": "climate"}, 1),
        ({"code": "missing", "device": "a", "measurement": "climate"}, 2),
    ]
    assert await counted(store, "birch") == [({"code": "missing", "device": "b", "measurement": "climate"}, 2)]
    await store.close()


async def test_counts_wait_while_the_store_is_away(tmp_path: Path) -> None:
    """Counts that could not be written are written with the next, added up."""

    class Away(SqliteStore):
        is_away = True

        async def write(self, startup: str, lines: Sequence[bytes]) -> None:
            if self.is_away:
                raise StoreUnavailable("away")
            await super().write(startup, lines)

    store = Away(tmp_path)
    await store.open()
    counter = RejectionCounter(store, lambda _startup, _device: True, lambda _topic: "")
    counter.rejected([rejection("acme", "a", Code.MISSING)])
    await counter.write()
    counter.rejected([rejection("acme", "a", Code.MISSING)])
    store.is_away = False
    await counter.write()
    assert await counted(store, "acme") == [({"code": "missing", "device": "a"}, 2)]
    await store.close()


async def test_no_startup_waits_for_anothers_store(tmp_path: Path) -> None:
    """While the store of one startup hangs the counts of another are written."""

    class Hanging(SqliteStore):
        async def write(self, startup: str, lines: Sequence[bytes]) -> None:
            if startup == "acme":
                await asyncio.Event().wait()
            await super().write(startup, lines)

    store = Hanging(tmp_path)
    await store.open()
    counter = RejectionCounter(store, lambda _startup, _device: True, lambda _topic: "")
    counter.rejected([rejection("acme", "a", Code.MISSING), rejection("birch", "b", Code.MISSING)])
    writing = asyncio.create_task(counter.write())

    async def is_counted() -> bool:
        return await counted(store, "birch") != []

    await eventually(is_counted)
    counter.rejected([rejection("birch", "c", Code.MISSING), rejection("acme", "a", Code.MISSING)])
    again = asyncio.create_task(counter.write())

    async def is_counted_again() -> bool:
        return len(await counted(store, "birch")) == 2

    await eventually(is_counted_again)
    for task in (writing, again):
        task.cancel()
    await asyncio.gather(writing, again, return_exceptions=True)
    await store.close()


async def test_counts_that_wait_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many devices are rejected while a store is away, few counts are kept: none is lost, though its device
    may be."""
    monkeypatch.setattr("gateway.feeds.rejection_counts.KINDS", 10)
    store = SqliteStore(tmp_path)
    await store.open()
    counter = RejectionCounter(store, lambda _startup, _device: True, lambda _topic: "m")
    counter.rejected([rejection("acme", f"th-{number}", Code.MISSING) for number in range(1000)])
    counter.rejected([rejection("birch", "b", Code.MISSING)])
    await counter.write()
    found = await counted(store, "acme")
    assert len(found) == 11
    assert [count for tags, count in found if "device" not in tags] == [990]
    assert len(await counted(store, "birch")) == 1
    await store.close()
