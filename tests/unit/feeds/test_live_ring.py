"""The live feeds: one ring a startup, followers are places in it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest

from gateway.feeds.live_ring import KEPT_BYTES, PIECE, PIECE_EVENTS, RING, Chunk, Event, LiveFeeds, LiveRing
from gateway.model import Code, Reading, Reason, Rejection
from tests.builders import rejection
from tests.servers import WITHIN, eventually

FIRST = 1000


def reading(number: int) -> Reading:
    return Reading("acme", "d", "climate", {}, {"n": number}, number)


def numbers(chunk: Chunk) -> list[object]:
    return [event.of.fields["n"] for event in chunk.events if isinstance(event.of, Reading)]


async def take(follower: AsyncGenerator[Chunk]) -> Chunk:
    async with asyncio.timeout(WITHIN):
        return await anext(follower)


async def test_a_new_follower_gets_later_events() -> None:
    """A new follower sees events from now on, several at once where several arrived."""
    feed = LiveRing(10, FIRST)
    feed.publish([reading(1)])
    follower = feed.follow()
    first = asyncio.ensure_future(take(follower))
    await eventually(lambda: feed.followers == 1)
    feed.publish([reading(2), reading(3)])
    assert numbers(await first) == [2, 3]
    feed.publish([reading(4)])
    assert numbers(await take(follower)) == [4]
    await follower.aclose()


async def test_a_returning_follower_continues_after_its_last_event() -> None:
    """With the id of its last event a follower misses nothing that is still kept."""
    feed = LiveRing(10, FIRST)
    feed.publish([reading(n) for n in range(5)])
    follower = feed.follow(after=feed.recent()[1].id)
    chunk = await take(follower)
    assert (chunk.missed, numbers(chunk)) == (0, [2, 3, 4])
    await follower.aclose()


async def test_a_slow_follower_is_informed_how_many_events_it_lost() -> None:
    """A follower that falls behind the ring gets the newest events and the number of lost ones."""
    feed = LiveRing(3, FIRST)
    feed.publish([reading(0)])
    follower = feed.follow(after=FIRST - 1)
    assert numbers(await take(follower)) == [0]
    feed.publish([reading(n) for n in range(1, 9)])
    chunk = await take(follower)
    assert (chunk.missed, numbers(chunk)) == (5, [6, 7, 8])
    await follower.aclose()


async def test_an_id_of_an_earlier_run_is_a_gap() -> None:
    """A follower that returns after a restart learns that events may be missing, then gets those kept."""
    feed = LiveRing(3, FIRST)
    feed.publish([reading(0)])
    for stranger in (5, FIRST + 500):
        follower = feed.follow(after=stranger)
        assert (await take(follower)).missed is None
        assert numbers(await take(follower)) == [0]
        await follower.aclose()


async def test_followers_do_not_share_their_places() -> None:
    """A follower that waits long takes nothing from another."""
    feed = LiveRing(100, FIRST)
    fast, slow = feed.follow(after=FIRST - 1), feed.follow(after=FIRST - 1)
    seen: list[object] = []
    for number in range(10):
        feed.publish([reading(number)])
        seen += numbers(await take(fast))
    assert seen == list(range(10))
    assert numbers(await take(slow)) == list(range(10))
    assert feed.followers == 2
    await fast.aclose()
    await slow.aclose()
    assert feed.followers == 0


def test_outcomes_go_to_the_feed_of_their_startup() -> None:
    """Readings and rejections appear in their own startup's feed alone, as JSON of one form."""
    live = LiveFeeds(10)
    rejection = Rejection("voltwise", "v", "t", b"x", 5, (Reason(Code.MISSING, "/t", "a number", "nothing"),))
    live.accepted({"acme": [reading(1)]})
    live.rejected([rejection])
    (event,) = live.feed("acme").recent()
    assert json.loads(event.json)["time"] == "1970-01-01T00:00:00.000000001Z"
    (rejected,) = live.feed("voltwise").recent()
    assert rejected.kind == "rejection"
    assert json.loads(rejected.json)["reasons"] == [
        {"code": "missing", "where": "/t", "expected": "a number", "got": "nothing"}
    ]


def test_the_feed_keeps_no_large_payloads() -> None:
    """The ring keeps the beginning of a large payload, and its whole size: memory is bounded."""
    live = LiveFeeds(10)
    reason = Reason(Code.TOO_LARGE, "payload", "at most 65,536 bytes", "5,000,000 bytes")
    large = Rejection("acme", "th-1", "t", b"x" * 5_000_000, 5, (reason,))
    live.rejected([large])
    (event,) = live.feed("acme").recent()
    assert isinstance(event.of, Rejection)
    assert len(event.of.payload) == KEPT_BYTES
    assert event.of.size == json.loads(event.json)["bytes"] == 5_000_000
    assert event.of.shortened(10).size == 5_000_000


LONG = rejection(b"x", topic="t" * 65_000)


def test_a_ring_is_bounded_in_bytes() -> None:
    """However long the topics, a ring holds a few megabytes; those that follow learn how many events they missed."""
    live = LiveFeeds(2000)
    for _ in range(20):
        live.rejected([LONG] * 100)
    held = live.feed("acme").recent()
    assert 0 < len(held) < 2000
    assert sum(len(event.of.topic) for event in held if isinstance(event.of, Rejection)) < RING
    live.accepted({"acme": [Reading("acme", "d", "m", {"tag": "t" * 500}, {"s": "x" * 60_000}, 1)] * 2000})
    held = live.feed("acme").recent()
    assert 0 < 60_000 * len(held) < RING


def test_an_event_that_is_larger_than_the_ring_is_missed() -> None:
    """It is counted, and the events after it are shown."""
    ring = LiveRing(10, FIRST, size=10_000)
    ring.publish([LONG])
    assert ring.recent() == []
    ring.publish([reading(1)])
    assert [event.id for event in ring.recent()] == [FIRST + 1]


def test_rings_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """With very many startups each has an equal part; one that has less keeps all of it."""
    monkeypatch.setattr("gateway.feeds.live_ring.RINGS", 40 << 20)
    live = LiveFeeds(2000)
    live.accepted({"quiet": [reading(1)]})
    for _ in range(2):
        for number in range(100):
            live.rejected([replace(LONG, startup=f"acme-{number}")] * 60)
    assert sum(live.feed(f"acme-{number}").size for number in range(100)) < 60 << 20
    assert len(live.feed("quiet").recent()) == 1


async def test_what_was_missed_comes_in_pieces() -> None:
    """A follower that catches up gets all that is kept, in small pieces, also while more arrives."""
    feed = LiveRing(2000, FIRST)
    feed.publish([reading(n) for n in range(1000)])
    feed.publish([replace(LONG, topic="t" * 20_000)] * 20)
    follower = feed.follow(after=FIRST - 1)
    seen: list[Event] = []
    while len(seen) < 1021:
        chunk = await take(follower)
        assert chunk.missed == 0
        assert len(chunk.events) <= PIECE_EVENTS
        assert len(chunk.events) == 1 or sum(len(event.json) for event in chunk.events) < 2 * PIECE
        seen += chunk.events
        if seen == chunk.events:
            feed.publish([reading(1000)])
    assert [event.id for event in seen] == list(range(FIRST, FIRST + 1021))
    await follower.aclose()


def test_the_feed_keeps_few_positions_of_records() -> None:
    """An array with thousands of bad records takes no more than its first ones; its count stays right."""
    live = LiveFeeds(10)
    live.rejected([rejection(b"[]", records=range(32_000))])
    (event,) = live.feed("acme").recent()
    assert isinstance(event.of, Rejection)
    assert (len(event.of.records), event.of.count) == (1000, 32_000)
