"""`mqtt.protocol: auto` takes the session that the broker needs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gateway.config import Mqtt
from gateway.mqtt.auto import AutoSession
from tests.servers import eventually
from tests.unit.mqtt.fake_broker import FakeBroker

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def refuse_as_3_1_1(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """CONNACK of MQTT 3.1.1 with return code 1, unacceptable protocol version, to 5; code 0 to itself."""
    packet = await reader.read(1000)
    is_5 = packet[8] == 5
    writer.write(b"\x20\x02\x00\x01" if is_5 else b"\x20\x02\x00\x00")
    while not is_5 and await reader.read(1000):
        pass
    writer.close()


async def close_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """What some old brokers do with a version that they do not know."""
    packet = await reader.read(1000)
    if packet[8] == 4:
        writer.write(b"\x20\x02\x00\x00")
        while await reader.read(1000):
            pass
    writer.close()


@pytest.mark.parametrize("serve", [refuse_as_3_1_1, close_at_once])
async def test_a_broker_of_3_1_1_gets_the_session_for_it(serve: Serve) -> None:
    """Whether it refuses MQTT 5 or just closes the connection."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        url = f"mqtt://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        session = AutoSession(Mqtt(url=url), ["testbed/#"])
        running = asyncio.create_task(session.run())
        await eventually(lambda: type(session._chosen).__name__ == "PahoSession", within=10)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_who_does_not_answer_as_a_broker_is_asked_again() -> None:
    """A port that accepts and closes, as a proxy does whose broker is not up yet, decides nothing."""
    tries: list[int] = []

    async def close(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tries.append(1)
        writer.close()

    async with await asyncio.start_server(close, "127.0.0.1", 0) as server:
        session = AutoSession(Mqtt(url=f"mqtt://127.0.0.1:{server.sockets[0].getsockname()[1]}"), ["testbed/#"])
        running = asyncio.create_task(session.run())
        await eventually(lambda: len(tries) >= 4, within=10)
        assert "closed the connection" in session.state.problem
        assert session._chosen is None
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_broker_of_5_gets_the_session_for_it() -> None:
    """Also the filters that came while it looked."""
    async with FakeBroker() as broker:
        session = AutoSession(Mqtt(url=broker.url), ["testbed/#"])
        session.subscribe(["testbed/#", "zigbee/+"])
        running = asyncio.create_task(session.run())
        await eventually(lambda: session.state.connected)
        assert type(session._chosen).__name__ == "Mqtt5Session"
        (subscribe,) = [one for one in broker.came if type(one).__name__ == "SubscribePacket"]
        assert [one.pattern for one in subscribe.topic_filters] == ["testbed/#", "zigbee/+"]
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_stopped_before_it_knows_there_are_no_batches() -> None:
    """A gateway that stops before its broker ever answered does not wait for it."""
    session = AutoSession(Mqtt(url="mqtt://127.0.0.1:1"), ["testbed/#"])
    session.stop()
    async with asyncio.timeout(5):
        assert [batch async for batch in session.batches()] == []
