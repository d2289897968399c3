"""`mqtt.protocol: auto` uses the session that the broker needs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import mqtt5
import pytest

from gateway.config import Mqtt
from gateway.mqtt.session import Access
from gateway.mqtt.sessions import Sessions
from tests.builders import session_plan
from tests.servers import WITHIN, eventually
from tests.unit.mqtt.fake_broker import FakeBroker

Answer = Callable[[int, asyncio.StreamWriter], None]
"""What an old broker does with a CONNECT of this protocol level, 4 for MQTT 3.1.1 and 5 for MQTT 5."""
CLIENT_ID = "gateway-of-the-test"


def reject_5(level: int, writer: asyncio.StreamWriter) -> None:
    """Send the CONNACK of MQTT 3.1.1, to MQTT 5 with return code 1, unacceptable protocol version."""
    writer.write(b"\x20\x02\x00\x01" if level == 5 else b"\x20\x02\x00\x00")
    if level == 5:
        writer.close()


def close_5(level: int, writer: asyncio.StreamWriter) -> None:
    """Close at once, as some old brokers do with a version that they do not know."""
    if level == 4:
        writer.write(b"\x20\x02\x00\x00")
    else:
        writer.close()


def accept(level: int, writer: asyncio.StreamWriter) -> None:
    """Accept either version, as a broker of MQTT 5 does."""
    writer.write(b"\x20\x03\x00\x00\x00" if level == 5 else b"\x20\x02\x00\x00")


def slow_at_first(times: int) -> Answer:
    """Leave the first few CONNECTs of MQTT 5 unanswered, as a broker does that is busy at its start."""
    silent = iter(range(times))

    def answer(level: int, writer: asyncio.StreamWriter) -> None:
        if level == 4 or next(silent, None) is None:
            accept(level, writer)

    return answer


def close_all(_level: int, writer: asyncio.StreamWriter) -> None:
    """Close at once, as a proxy does whose broker is not up yet."""
    writer.close()


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server of that answer: its URL, and every CONNECT that it gets."""
    connects: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if packet := await reader.read(1000):
            connects.append(packet)
            answer(packet[8], writer)
            while await reader.read(1000):
                pass
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"mqtt://127.0.0.1:{server.sockets[0].getsockname()[1]}", connects


@asynccontextmanager
async def running(url: str, **settings: str) -> AsyncIterator[Sessions]:
    access = Access.of(Mqtt.model_validate({"url": url, "client_id": CLIENT_ID, **settings}))
    sessions = Sessions(access, session_plan({"acme": ["testbed/acme/#"]}), {})
    task = asyncio.create_task(sessions.run())
    try:
        yield sessions
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def levels_of_session(connects: list[bytes]) -> list[int]:
    """The protocol levels of the CONNECTs that ask for a startup's session: a probe has no client id."""
    return [packet[8] for packet in connects if f"{CLIENT_ID}.acme".encode() in packet]


@pytest.mark.parametrize("answer", [reject_5, close_5])
async def test_broker_of_3_1_1_gets_a_session_of_3_1_1(answer: Answer) -> None:
    """It may reject MQTT 5, or just close the connection."""
    async with serving(answer) as (url, connects), running(url):
        await eventually(lambda: levels_of_session(connects) == [4])


async def test_slow_broker_of_5_gets_sessions_of_5(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that does not answer the first CONNECT of MQTT 5 in time, but does answer 3.1.1, is asked once more."""
    monkeypatch.setattr("gateway.mqtt.auto.PROBE_WITHIN", 0.2)
    async with serving(slow_at_first(1)) as (url, connects), running(url):
        await eventually(lambda: levels_of_session(connects) == [5])


async def test_uncertain_choice_is_reconsidered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that was slower than that gets sessions of 3.1.1, and those of MQTT 5 as soon as it answers."""
    monkeypatch.setattr("gateway.mqtt.auto.PROBE_WITHIN", 0.2)
    monkeypatch.setattr("gateway.mqtt.sessions.RECONSIDER_EVERY", 0.1)
    async with serving(slow_at_first(3)) as (url, connects), running(url):
        await eventually(lambda: levels_of_session(connects) == [4, 5])


async def test_broker_that_is_replaced_gets_other_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker of 3.1.1 in the place of one of 5 rejects its sessions; they go over to 3.1.1. One that only hangs up
    on MQTT 5 decides nothing."""
    monkeypatch.setattr("gateway.mqtt.sessions.RECONSIDER_EVERY", 0.1)
    behaviour: list[Answer] = [accept]
    async with serving(lambda level, writer: behaviour[0](level, writer)) as (url, connects), running(url) as sessions:
        await eventually(lambda: levels_of_session(connects) == [5])
        behaviour[0] = close_5
        sessions.use(session_plan({}))
        sessions.use(session_plan({"acme": ["testbed/acme/+"]}))
        await eventually(lambda: len(connects) > 12)
        assert set(levels_of_session(connects)) == {5}
        behaviour[0] = reject_5
        await eventually(lambda: levels_of_session(connects)[-1] == 4)


async def test_server_that_is_not_a_broker_is_probed_again() -> None:
    """A port that accepts and closes, as a proxy does whose broker is not up yet, decides nothing."""
    async with serving(close_all) as (url, connects), running(url) as sessions:
        await eventually(lambda: len(connects) >= 4)
        assert "closed the connection" in sessions.state.problem
        assert levels_of_session(connects) == []


async def test_broker_of_5_gets_sessions_of_5() -> None:
    """They subscribe to the filters that were set while the broker was probed, too."""
    async with FakeBroker() as broker, running(broker.url) as sessions:
        sessions.use(session_plan({"acme": ["testbed/acme/#", "zigbee/+"]}))
        await eventually(lambda: sessions.state.connected)
        assert f"{CLIENT_ID}.acme" in [packet.client_id for packet in broker.of(mqtt5.ConnectPacket)]
        (subscribe,) = broker.of(mqtt5.SubscribePacket)
        assert [one.pattern for one in subscribe.topic_filters] == ["testbed/acme/#", "zigbee/+"]


async def test_stop_before_the_probe_ends_the_waiting() -> None:
    """A gateway that stops before its broker ever answered does not wait for it."""
    sessions = Sessions(Access.of(Mqtt(url="mqtt://127.0.0.1:1")), session_plan({"acme": ["testbed/acme/#"]}), {})
    sessions.stop()
    async with asyncio.timeout(WITHIN):
        assert not await sessions.arrived()


@pytest.mark.parametrize(("protocol", "level"), [("5", 5), ("3.1.1", 4)])
async def test_protocol_that_is_set_is_not_probed(protocol: str, level: int) -> None:
    """`mqtt.protocol` decides: the broker sees no CONNECT but those of the sessions."""
    async with serving(close_all) as (url, connects), running(url, protocol=protocol):
        await eventually(lambda: len(connects) >= 2)
        assert all(CLIENT_ID.encode() in packet for packet in connects)
        assert {packet[8] for packet in connects} == {level}
