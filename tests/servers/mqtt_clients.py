"""Steps of tests with a broker, in a line each: connect, publish, leave a session behind, read its queue."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

import aiomqtt

from tests.servers.processes import LOOPBACK
from tests.servers.waiting import WITHIN


class Broker(Protocol):
    """Anything that listens for MQTT at 127.0.0.1: a broker, or a proxy before one."""

    port: int


def connect(broker: Broker, *, host: str = LOOPBACK, **settings: Any) -> aiomqtt.Client:
    """Make an MQTT client, to be entered by `async with`. What it waits for may take as long as a busy machine
    needs."""
    return aiomqtt.Client(host, broker.port, timeout=WITHIN, **settings)


def client(broker: Broker, name: str, *, clean: bool = False) -> aiomqtt.Client:
    """Make one with a persistent session, or with a clean one."""
    return connect(broker, identifier=name, clean_session=clean)


async def publish(broker: Broker, topic: str, *payloads: bytes) -> None:
    """Publish with QoS 1, one after the other, and return when all are acknowledged."""
    async with connect(broker) as device:
        for payload in payloads:
            await device.publish(topic, payload, qos=1)


async def leave_session(broker: Broker, name: str, topic_filter: str) -> None:
    """Subscribe with QoS 1 in the persistent session `name`, and disconnect."""
    async with client(broker, name) as subscriber:
        await subscriber.subscribe(topic_filter, qos=1)


async def queued(broker: Broker, name: str, count: int) -> list[bytes]:
    """Return the payloads of the next `count` messages of the session `name`; TimeoutError when they do not come."""
    received: list[bytes] = []
    async with asyncio.timeout(WITHIN), client(broker, name) as subscriber:
        async for message in subscriber.messages:
            received.append(message.payload)
            if len(received) == count:
                break
    return received
