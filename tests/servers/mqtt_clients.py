"""What tests do with a broker, in a line each: publish, leave a session behind, read what it kept."""

from __future__ import annotations

import asyncio
from typing import Protocol

import aiomqtt

from tests.servers.processes import LOOPBACK


class Broker(Protocol):
    """Whatever listens for MQTT at 127.0.0.1: a broker, or a proxy before one."""

    port: int


def client(broker: Broker, name: str, *, clean: bool = False) -> aiomqtt.Client:
    """An MQTT 3.1.1 client with a persistent session, or with a clean one; to be entered by `async with`."""
    return aiomqtt.Client(LOOPBACK, broker.port, identifier=name, clean_session=clean, timeout=5)


async def publish(broker: Broker, topic: str, *payloads: bytes) -> None:
    """Publish with QoS 1, one after the other, and return when all are acknowledged."""
    async with aiomqtt.Client(LOOPBACK, broker.port, timeout=5) as device:
        for payload in payloads:
            await device.publish(topic, payload, qos=1)


async def leave_session(broker: Broker, name: str, topic_filter: str) -> None:
    """Subscribe with QoS 1 in the persistent session `name`, and disconnect."""
    async with client(broker, name) as subscriber:
        await subscriber.subscribe(topic_filter, qos=1)


async def queued(broker: Broker, name: str, count: int) -> list[bytes]:
    """The payloads of the next `count` messages of the session `name`; TimeoutError after 10 s."""
    received: list[bytes] = []
    async with asyncio.timeout(10), client(broker, name) as subscriber:
        async for message in subscriber.messages:
            received.append(message.payload)
            if len(received) == count:
                break
    return received
