"""Numbered messages to the gateway while it is recorded, and the gateway's own life: ended, killed, started again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aiomqtt

from tests.running import TOKENS, climate
from tests.servers import Mosquitto
from tests.servers.mqtt_clients import connect

STARTUPS = tuple(TOKENS)
BAD_VALUE = 999
IN_FLIGHT = 8
"""Messages that are published at a time: so that a commit of the gateway holds several."""


def startup_of(number: int) -> str:
    return STARTUPS[number % len(STARTUPS)]


def is_bad(number: int) -> bool:
    """Return whether a message is rejected: its value is out of range."""
    return number % 10 >= 8


def value(number: int) -> float:
    return BAD_VALUE if is_bad(number) else 20 + number % 50 / 10


class Publisher:
    """Publishes with QoS 1 from `first` on, to all startups in turn; `published` counts what the broker has taken."""

    def __init__(self, broker: Mosquitto, first: int) -> None:
        self.next = first
        self.published = 0
        self.stopped = False
        self._broker = broker
        self._base_ms = time.time_ns() // 1_000_000 - 3_600_000

    async def run(self) -> None:
        async with connect(self._broker, identifier="powercut-publisher") as client, asyncio.TaskGroup() as tasks:
            for _ in range(IN_FLIGHT):
                tasks.create_task(self._publish(client))

    async def _publish(self, client: aiomqtt.Client) -> None:
        while not self.stopped:
            number, self.next = self.next, self.next + 1
            payload = climate(value(number), self._base_ms + number, number)
            await client.publish(f"testbed/{startup_of(number)}/d{number % 7}/climate", payload, qos=1)
            self.published += 1
            await asyncio.sleep(0.005)


@asynccontextmanager
async def publishing(broker: Mosquitto, first: int) -> AsyncIterator[Publisher]:
    publisher = Publisher(broker, first)
    task = asyncio.create_task(publisher.run())
    try:
        yield publisher
    finally:
        publisher.stopped = True
        with suppress(aiomqtt.MqttError):
            await task
