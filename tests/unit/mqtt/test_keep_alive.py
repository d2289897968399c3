"""Keep alive of both sessions: a silent broker is left, and one that waits for us hears of us."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.config import Mqtt
from gateway.mqtt.mqtt5 import Mqtt5Session
from gateway.mqtt.mqtt311 import PahoSession
from gateway.mqtt.session import MakeSession
from tests.servers import eventually
from tests.sessions import WaitingSession
from tests.unit.mqtt.raw_broker import RawBroker

SESSIONS: dict[int, MakeSession] = {5: Mqtt5Session, 4: PahoSession}
BOTH = pytest.mark.parametrize("version", SESSIONS)


@asynccontextmanager
async def connected(broker: RawBroker) -> AsyncIterator[WaitingSession]:
    """A session with the shortest keep alive, whose messages nobody takes."""
    session = WaitingSession(SESSIONS[broker.version], Mqtt.model_validate({"url": broker.url, "keep_alive": "1s"}))
    task = asyncio.create_task(session.run())
    try:
        await eventually(lambda: session.state.connected)
        yield session
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@BOTH
async def test_silent_broker_is_left(version: int) -> None:
    """One that answers no PINGREQ within one and a half keep alives is connected to anew."""
    async with RawBroker(version) as broker:
        broker.pongs = False
        async with connected(broker) as session:
            await eventually(lambda: session.state.connections > 1)
            assert broker.connections > 1


@BOTH
async def test_broker_hears_of_a_session_that_does_not_read(version: int) -> None:
    """While messages wait to be taken, pings go on: otherwise the broker would end the connection, whenever the journal
    is full or a startup is over its quota."""
    async with RawBroker(version) as broker, connected(broker):
        broker.send(broker.message(1, b"testbed/acme/a/x", bytes(100_000)) * 20)
        before = broker.pings
        await eventually(lambda: broker.pings >= before + 3, says="pings come")
        assert broker.connections == 1
