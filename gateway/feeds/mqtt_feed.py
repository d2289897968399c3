"""The MQTT feeds: `feeds/{startup}/{device}/{measurement}` for readings, `feedback/{startup}/{device}` for what was
wrong with a device's messages. A listener of the live feeds like any other: it never holds up the way in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from gateway.feeds.live import Chunk, Event, Feed, Live
from gateway.model import UNROUTED, Reading, Rejection
from gateway.mqtt.session import Session

_NOT_IN_A_TOPIC = frozenset("+#\0/")


class MqttFeed:
    """Publishes every startup's feed and feedback over the gateway's own session."""

    def __init__(self, live: Live, session: Session, *, readings: bool) -> None:
        self._live = live
        self._session = session
        self._readings = readings
        self.dropped = 0
        self._followed: set[str] = set()
        self._tasks: asyncio.TaskGroup

    async def run(self, startups: Iterable[str]) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            self.add(startups)
            await asyncio.Event().wait()

    def add(self, startups: Iterable[str]) -> None:
        """Publish the feeds of startups that are new."""
        for startup in set(startups) - self._followed:
            self._followed.add(startup)
            self._tasks.create_task(self._follow(self._live.feed(startup)), name=f"mqtt-feed-{startup}")

    async def _follow(self, feed: Feed) -> None:
        async for chunk in feed.follow():
            self._publish(chunk)
            await asyncio.sleep(0)  # a large chunk must not keep others from the loop twice in a row

    def _publish(self, chunk: Chunk) -> None:
        self.dropped += chunk.missed or 0
        for event in chunk.events:
            topic = self._topic(event)
            qos = 0 if event.kind == "reading" else 1
            if topic and not self._session.publish(topic, event.json, qos=qos):
                self.dropped += 1

    def _topic(self, event: Event) -> str:
        match event.of:
            case Reading(startup=startup, device=device, measurement=measurement):
                return f"feeds/{startup}/{device}/{measurement}" if self._readings else ""
            case Rejection(startup=startup, device=device):
                nameless = not device or startup == UNROUTED or _NOT_IN_A_TOPIC & set(device)
                return "" if nameless else f"feedback/{startup}/{device}"
