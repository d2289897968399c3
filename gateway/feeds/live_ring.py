"""Live events. Each startup has a bounded ring of events, and every follower is a position in it.

A follower that is slower than the ring loses its oldest events and learns how many; it holds nobody up, because there
is nothing of its own to fill. A follower that returns with the id of its last event continues from there. It gets
what it has missed in pieces.

A ring is bounded by number and in bytes, and all rings together are bounded in bytes.

Event ids grow by one within a run of the gateway, and from run to run.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

from pydantic_core import to_json

from gateway import timestamps
from gateway.fair_lock import FairLock
from gateway.feeds.kept_events import KeptEvents, weight
from gateway.model import MAX_POSITIONS, Reading, Readings, Rejection

KEPT_BYTES = 2048
"""Bytes of a payload that the ring keeps: it holds thousands of events, and a message may have any size."""
RING = 4 << 20
"""Bytes of one ring."""
RINGS = 256 << 20
"""Bytes of all rings. Where there are more, each gets an equal part."""
PIECE = 32 << 10
"""Bytes of the events that a follower gets at once, about; one event may be larger."""
PIECE_EVENTS = 256


class Event:
    """An accepted reading, or a rejection, as the feeds show it. Its JSON is made once, at the first request."""

    __slots__ = ("_json", "id", "of")

    def __init__(self, ident: int, of: Reading | Rejection) -> None:
        self.id = ident
        self.of = of
        self._json: bytes | None = None

    @property
    def kind(self) -> Literal["reading", "rejection"]:
        return "reading" if isinstance(self.of, Reading) else "rejection"

    @property
    def has_json(self) -> bool:
        return self._json is not None

    @property
    def json(self) -> bytes:
        if self._json is None:
            body = reading_json(self.of) if isinstance(self.of, Reading) else rejection_json(self.of)
            self._json = to_json(body)
        return self._json


@dataclass(frozen=True, slots=True)
class Chunk:
    """Events that a follower gets at once. It lost `missed` events before these; None: unknown how many.

    Followers that keep up share a chunk, and what they have made of it: `forms`, by whoever makes one.
    """

    missed: int | None
    events: Sequence[Event]
    forms: dict[object, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def is_silence(self) -> bool:
        """Whether it says that nothing has come."""
        return self.missed == 0 and not self.events


class LiveRing:
    """The ring of one startup."""

    def __init__(self, kept: int, first_id: int, size: int = RING, turns: FairLock | None = None) -> None:
        self._ring = KeptEvents(kept, size)
        self._turns = turns or FairLock()
        self._has_ended = False
        self._first_id = first_id
        self._next_id = first_id
        self._news = asyncio.Event()
        self._shared = (0, 0, Chunk(0, ()))
        self.followers = 0

    def turn(self) -> AbstractAsyncContextManager[None]:
        """Hold the turn in which one follower processes a piece. Rings take turns, so that many followers together do
        not occupy the event loop."""
        return self._turns.held(self)

    @property
    def size(self) -> int:
        return self._ring.size

    @property
    def next_id(self) -> int:
        return self._next_id

    def publish(self, items: Sequence[Reading | Rejection]) -> None:
        """Show events to all followers; never waits, and costs next to nothing while there are none."""
        self._ring.add(items)
        self._next_id += len(items)
        if self.followers:
            self._news.set()
            self._news = asyncio.Event()

    def limit(self, size: int) -> None:
        """Keep at most `size` bytes when events are published from now on."""
        self._ring.max_size = size

    def skip(self, events: int) -> None:
        """Drop the events so far and count `events` that will never be shown: followers learn how many they missed."""
        self._ring.clear()
        self._next_id += events

    async def follow(self, after: int | None = None, silence: float | None = None) -> AsyncGenerator[Chunk]:
        """Yield events as they arrive, until the ring ends; with `after`, first those since that id. A chunk without
        events comes after each `silence` seconds in which nothing does."""
        self.followers += 1
        try:
            place = self._next_id if after is None else after + 1
            if place < self._first_id or place > self._next_id:  # the id is from an earlier run
                place = self._next_id - len(self._ring)
                yield Chunk(None, ())
            while not self._has_ended:
                if place == self._next_id:
                    if not await self._arrives(silence):
                        yield Chunk(0, ())
                    continue
                chunk = self._since(place)
                place += (chunk.missed or 0) + len(chunk.events)
                yield chunk
        finally:
            self.followers -= 1

    async def _arrives(self, within: float | None) -> bool:
        """Wait for news; return False where there are none in so many seconds."""
        try:
            async with asyncio.timeout(within):
                return await self._news.wait()
        except TimeoutError:
            return False

    def end(self) -> None:
        """Release all followers: the startup is no longer configured."""
        self._has_ended = True
        self._news.set()

    def recent(self) -> list[Event]:
        """Return the events in the ring, the oldest first."""
        oldest = self._next_id - len(self._ring)
        return [Event(oldest + i, item) for i, item in enumerate(self._ring)]

    def _since(self, place: int) -> Chunk:
        """Return the next piece from a place on. Followers that keep up share one chunk and its JSON."""
        start, stop, chunk = self._shared
        if (start, stop) == (place, self._next_id):
            return chunk
        oldest = self._next_id - len(self._ring)
        first = max(place, oldest)
        events: list[Event] = []
        size = 0
        for i, item in enumerate(islice(self._ring.since(first - oldest), PIECE_EVENTS)):
            size += weight([item])
            if events and size > PIECE:
                break
            events.append(Event(first + i, item))
        chunk = Chunk(first - place, events)
        self._shared = (place, self._next_id, chunk)
        return chunk


class LiveFeeds:
    """The feeds of all startups."""

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._first_id = time.time_ns() // 1000
        self._turns = FairLock()
        self._feeds: dict[str, LiveRing] = {}
        self._size = 0

    def feed(self, startup: str) -> LiveRing:
        """Return the ring of a startup; make it where there is none yet."""
        if (ring := self._feeds.get(startup)) is None:
            ring = self._feeds[startup] = LiveRing(self._kept, self._first_id, turns=self._turns)
        return ring

    def keep_only(self, startups: Collection[str]) -> None:
        """End the rings of all others. Where one of these comes back, it begins a new ring, with later ids."""
        for gone in self._feeds.keys() - startups:
            ring = self._feeds.pop(gone)
            self._size -= ring.size
            ring.end()
            self._first_id = max(self._first_id, ring.next_id)

    def skip(self, startup: str, events: int) -> None:
        """Drop the events of a startup so far: see `LiveRing.skip`."""
        ring = self.feed(startup)
        self._size -= ring.size
        ring.skip(events)

    def _publish(self, startup: str, items: Sequence[Reading | Rejection]) -> None:
        ring = self.feed(startup)
        before = ring.size
        ring.limit(RING if self._size <= RINGS else RINGS // len(self._feeds))
        ring.publish(items)
        self._size += ring.size - before

    def accepted(self, readings: Readings, /) -> None:
        """Show readings, each in its startup's feed."""
        for startup, several in readings.items():
            self._publish(startup, several)

    def rejected(self, rejections: Sequence[Rejection], /) -> None:
        """Show rejections, each in its startup's feed."""
        by_startup: dict[str, list[Rejection]] = {}
        for rejection in rejections:
            by_startup.setdefault(rejection.startup, []).append(rejection)
        for startup, several in by_startup.items():
            self._publish(startup, [rejection.shortened(KEPT_BYTES) for rejection in several])


def reading_json(reading: Reading) -> dict[str, object]:
    """Return the form of a reading in every feed."""
    return {
        "startup": reading.startup,
        "device": reading.device,
        "measurement": reading.measurement,
        "time": timestamps.to_rfc3339(reading.time_ns),
        "tags": reading.tags,
        "fields": reading.fields,
    }


def rejection_json(rejection: Rejection) -> dict[str, object]:
    """Return the form of a rejection in every feed, and in the feedback to the device."""
    return {
        "startup": rejection.startup,
        "device": rejection.device,
        "topic": rejection.topic,
        "time": timestamps.to_rfc3339(rejection.arrived_ns),
        "records": rejection.records[:MAX_POSITIONS],
        "reasons": [reason.as_json() for reason in rejection.reasons],
        "bytes": rejection.size,
    }
