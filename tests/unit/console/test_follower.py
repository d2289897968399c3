"""Gathering between two pushes."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace

import pytest

from gateway.console import follower
from gateway.console.follower import Follower, Gathered
from gateway.feeds.live_ring import LiveRing
from gateway.model import Code, Reading, Reason, Rejection
from tests.servers import eventually


def reading(number: int) -> Reading:
    return Reading("acme", "a", "climate", {}, {"n": number}, number)


def rejection(number: int) -> Rejection:
    return Rejection("acme", "a", "t", b"", number, (Reason(Code.EMPTY, "payload", "", ""),))


async def taken(one: Follower) -> Gathered:
    """Return what a follower has gathered, as soon as that is something. Events published at once come together."""

    def something() -> Gathered:
        gathered = one.take()
        assert any(gathered)
        return gathered

    return await eventually(something)


async def test_readings_and_rejections_are_handed_over_once() -> None:
    """In order, and apart; after that there is nothing. Once cancelled, it is no longer a listener."""
    feed = LiveRing(100, 1)
    one = Follower(feed)
    task = asyncio.create_task(one.run())
    await eventually(lambda: feed.followers == 1)
    feed.publish([reading(1), rejection(2), reading(3)])
    gathered = await taken(one)
    assert [item.time_ns for item in gathered.readings] == [1, 3]
    assert [item.arrived_ns for item in gathered.rejections] == [2]
    assert gathered.missed == 0
    assert one.take() == ([], [], 0)
    assert feed.followers == 1
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert feed.followers == 0


async def test_what_is_missed_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both what the ring lost and what did not fit here; of rejections the newest are kept."""
    monkeypatch.setattr(follower, "MAX_READINGS", 5)
    feed = LiveRing(10, 1)
    one = Follower(feed)
    task = asyncio.create_task(one.run())
    await eventually(lambda: feed.followers == 1)
    feed.publish([reading(number) for number in range(12)])
    feed.publish([rejection(number) for number in range(3)])
    gathered = await taken(one)
    assert len(gathered.readings) + gathered.missed == 12
    assert gathered.readings[-1].time_ns == 11
    assert len(gathered.rejections) == 3
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_what_is_gathered_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the texts are, and however fast they come: what does not fit is counted."""
    monkeypatch.setattr(follower, "MAX_BYTES", 100_000)
    feed = LiveRing(50, 1)
    one = Follower(feed)
    task = asyncio.create_task(one.run())
    await eventually(lambda: feed.followers == 1)
    for number in range(100):
        feed.publish([Reading("acme", "a", "log", {}, {"text": "x" * 10_000}, number)])
        await asyncio.sleep(0)
    gathered = [await taken(one)]
    assert sum(len(str(reading.fields["text"])) for reading in gathered[0].readings) <= 100_000
    while sum(len(each.readings) + each.missed for each in gathered) < 100:
        gathered.append(await taken(one))
    assert all(len(each.readings) <= 10 for each in gathered)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_rejections_are_bounded_in_bytes() -> None:
    """Rejections with long topics and many reasons: a page that is not drawn holds half a megabyte of them."""
    feed = LiveRing(100, 1)
    one = Follower(feed)
    task = asyncio.create_task(one.run())
    await eventually(lambda: feed.followers == 1)
    feed.publish([replace(rejection(number), topic="t" * 60_000) for number in range(30)])
    gathered = await taken(one)
    assert [item.arrived_ns for item in gathered.rejections] == list(range(22, 30))
    task.cancel()
