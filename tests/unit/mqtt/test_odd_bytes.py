"""Whatever bytes a broker sends, to either session: nothing ends it, wedges it, or fills the log.

A device chooses topic, properties and payload, and not every broker checks them. Whatever is a message has to be
acknowledged, or the broker delivers it for ever; whatever is not ends its connection, and no more.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from gateway.config import Mqtt
from gateway.model import Publish, cut_of
from gateway.mqtt.mqtt5 import Mqtt5Session
from gateway.mqtt.mqtt311 import PahoSession
from gateway.mqtt.session import MAX_PACKET, MakeSession
from tests.servers import eventually
from tests.sessions import WaitingSession
from tests.unit.mqtt.raw_broker import RawBroker, packet

SESSIONS: dict[int, MakeSession] = {5: Mqtt5Session, 4: PahoSession}
BOTH = pytest.mark.parametrize("version", SESSIONS)
GOOD = b"testbed/acme/a/x"
BOUNDED_LINES = 20
"""Lines of the log that a broken connection or two may take."""
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in. None")  # mqtt5 panics, and pyo3 says so


class Taken:
    """A session with its broker, and what has arrived; all of it is acknowledged."""

    def __init__(self, broker: RawBroker, session: WaitingSession) -> None:
        self.broker = broker
        self.session = session
        self.messages: list[Publish] = []

    async def run(self) -> None:
        async for batch in self.session.batches():
            self.messages += batch.messages
            self.session.ack(batch)

    async def good_one_arrives(self, ident: int) -> None:
        """Publish a message of which nothing is odd, and wait until it is acknowledged."""
        await eventually(lambda: self.session.state.connected, says="the session is connected")
        self.broker.send(self.broker.message(ident, GOOD))
        await eventually(lambda: ident in self.broker.acknowledged, says="the next message is acknowledged")


@asynccontextmanager
async def taking(version: int, **settings: str) -> AsyncIterator[Taken]:
    async with RawBroker(version) as broker:
        session = WaitingSession(SESSIONS[version], Mqtt.model_validate({"url": broker.url, **settings}))
        one = Taken(broker, session)
        tasks = [asyncio.create_task(session.run()), asyncio.create_task(one.run())]
        try:
            await eventually(lambda: session.state.connected)
            yield one
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@BOTH
@pytest.mark.parametrize(
    "topic",
    [
        b"testbed/acme/\xff/x",
        b"\xed\xa0\x80",
        b"testbed/\0/x",
        b"testbed/acme/+/x",
        b"testbed/#",
        b"",
        b"\xff" * 65_535,
    ],
    ids=["not UTF-8", "a surrogate", "NUL", "a wildcard", "wildcards", "empty", "long"],
)
async def test_odd_topic_is_acknowledged(version: int, topic: bytes) -> None:
    """A message with any topic arrives once and is acknowledged; the next one follows on the same connection."""
    with capture_logs() as logs:
        async with taking(version) as one:
            one.broker.send(one.broker.message(7, topic))
            await eventually(lambda: one.broker.acknowledged == [7], says="it is acknowledged")
            await one.good_one_arrives(8)
            assert [message.topic for message in one.messages] == [topic.decode(errors="replace"), GOOD.decode()]
            assert one.broker.connections == 1
    assert len(logs) < BOUNDED_LINES


@pytest.mark.parametrize(
    "properties",
    [
        b"\x26\0\1\xff\0\1\xff",
        b"\x08\0\1\xff",
        b"\x08\0\1#",
        b"\x03\0\1\xff",
        b"\x23\0\1",
        b"\x23\0\0",
        b"\x01\x02",
        b"\x0b\0",
        b"\x03\0\1a\x03\0\1a",
        b"\x7f\0",
        b"\x08\xff\xff",
        b"\x26" * 3,
    ],
    ids=[
        "a user property that is not UTF-8",
        "a response topic that is not UTF-8",
        "a response topic with a wildcard",
        "a content type that is not UTF-8",
        "a topic alias",
        "topic alias 0",
        "a format that does not exist",
        "subscription id 0",
        "a property twice",
        "a property that does not exist",
        "a property that is longer than all",
        "a property that is cut",
    ],
)
async def test_odd_properties_are_acknowledged(properties: bytes) -> None:
    """With MQTT 5, a message with any properties arrives once and is acknowledged; so does the next one."""
    async with taking(5) as one:
        one.broker.send(one.broker.message(7, GOOD, properties=properties))
        await eventually(lambda: one.broker.acknowledged == [7], says="it is acknowledged")
        await one.good_one_arrives(8)
        assert [message.payload for message in one.messages] == [b"{}", b"{}"]
        assert one.broker.connections == 1


@BOTH
async def test_packet_id_0_is_a_message(version: int) -> None:
    """A message whose packet id no message may have neither ends the connection nor is passed over."""
    async with taking(version) as one:
        one.broker.send(one.broker.message(0, GOOD))
        await one.good_one_arrives(8)
        assert len(one.messages) == 2
        assert one.broker.connections == 1


MALFORMED = {
    "type 0": b"\0\0",
    "a type for clients": packet(0x82, b"\0\1\0\1a\0"),
    "QoS 3": packet(0x36, b"\0\1a\0\1{}"),
    "a topic that is longer than its packet": packet(0x32, b"\0\xffa"),
    "a packet without anything": b"\x32\0",
    "a length of five bytes": b"\x32\xff\xff\xff\xff\x01",
    "an answer to nothing, cut": packet(0x90, b"\0"),
    "an acknowledgement, cut": packet(0x40, b"\0"),
    "a large packet that is no message": b"\xd0\xff\xff\xff\x7f" + bytes(10),
    "zeros": bytes(1000),
    "a web server": b"HTTP/1.1 400 Bad Request\r\n" * 100,
}


@BOTH
@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
async def test_malformed_packet_ends_its_connection_only(version: int, data: bytes) -> None:
    """The session says what is wrong in a few lines, connects again, and takes what comes then."""
    with capture_logs() as logs:
        async with taking(version) as one:
            one.broker.send(data)
            await eventually(lambda: one.broker.connections > 1, says="it connects again")
            await one.good_one_arrives(8)
    assert len(logs) < BOUNDED_LINES


@BOTH
async def test_second_connack_ends_its_connection_only(version: int) -> None:
    """It would make the packet ids of the messages so far invalid."""
    async with taking(version) as one:
        one.broker.send(one.broker.connack)
        await eventually(lambda: one.broker.connections > 1, says="it connects again")
        await one.good_one_arrives(8)


@BOTH
@pytest.mark.parametrize("seed", range(5))
async def test_random_bytes_do_no_harm(version: int, seed: int) -> None:
    """Garbage before, between and in packets, read after read: in the end the session takes messages."""
    chance = random.Random(seed)
    with capture_logs() as logs:
        async with taking(version) as one:
            for _ in range(3):
                good = one.broker.message(5, GOOD, chance.randbytes(30))
                damaged = bytearray(good * 3)
                damaged[chance.randrange(len(damaged))] = chance.randrange(256)
                one.broker.send(bytes(damaged) + chance.randbytes(200) + bytes(10))
                before = one.broker.connections
                one.broker.drop()  # garbage may look like the beginning of a packet of 256 MB
                await eventually(lambda: one.broker.connections > before, says="it connects again")  # noqa: B023
                await eventually(lambda: one.session.state.connected)
            await one.good_one_arrives(8)
    assert len(logs) < BOUNDED_LINES


@BOTH
@pytest.mark.parametrize("code", [0x7F, 0x83, 0xFF])
async def test_odd_answer_to_a_subscription_rejects_it(version: int, code: int) -> None:
    """A code that does not exist is not taken for a grant; the state names the filter, and mended it is granted."""
    async with RawBroker(version) as broker:
        broker.granted = bytes([code])
        session = WaitingSession(SESSIONS[version], Mqtt(url=broker.url))
        task = asyncio.create_task(session.run())
        await eventually(lambda: "rejected the subscription to testbed/#" in session.state.problem)
        broker.granted = bytes([1])
        await eventually(lambda: session.state.connected)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@BOTH
async def test_answer_without_a_code_grants_nothing(version: int) -> None:
    """A SUBACK that says nothing about a filter has not granted it."""
    async with RawBroker(version) as broker:
        broker.granted = b""
        session = WaitingSession(SESSIONS[version], Mqtt(url=broker.url))
        task = asyncio.create_task(session.run())
        await eventually(lambda: "rejected the subscription to testbed/#" in session.state.problem)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_odd_reason_of_an_acknowledgement_ends_nothing() -> None:
    """With MQTT 5, a PUBACK with a reason that does not exist is an answer all the same."""
    async with taking(5) as one:
        for code in (0x55, 0x80, 0xEE):
            one.broker.send(packet(0x40, b"\0\1" + bytes([code])))
        one.broker.send(packet(0xB0, b"\0\1\0" + b"\x7f"))
        await one.good_one_arrives(8)
        assert one.broker.connections == 1


@BOTH
@pytest.mark.parametrize("size", [MAX_PACKET, MAX_PACKET + 1, 5 << 20])
async def test_large_message_is_cut_and_acknowledged(version: int, size: int) -> None:
    """Of a message that is larger than a session takes, it keeps a part; it says how much is missing, acknowledges it,
    and the messages before and after it are whole."""
    async with taking(version) as one:
        broker = one.broker
        broker.send(broker.message(6, GOOD, b"before") + broker.message(7, GOOD, bytes(size)) + broker.message(8, GOOD))
        await eventually(lambda: broker.acknowledged == [6, 7, 8], says="all are acknowledged")
        large = one.messages[1]
        assert len(large.payload) <= MAX_PACKET
        assert len(large.payload) + cut_of(large) == size
        assert [(message.payload, cut_of(message)) for message in (one.messages[0], one.messages[2])] == [
            (b"before", 0),
            (b"{}", 0),
        ]
        assert broker.connections == 1


async def test_text_that_is_not_utf_8_does_not_fill_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    """The codec of MQTT 5 writes to standard error when it meets one, below every logger: once, and no more."""
    async with taking(5) as one:
        for ident in range(1, 200):
            one.broker.send(one.broker.message(ident, GOOD, properties=b"\x03\0\1\xff"))
        await eventually(lambda: len(one.broker.acknowledged) == 199, says="all are acknowledged")
        one.broker.send(packet(0x40, b"\0\1"))
        await one.good_one_arrives(200)
    assert len(capfd.readouterr().err.splitlines()) < 100


async def test_large_properties_leave_no_payload() -> None:
    """What is kept of a message that is too large must never look like a whole one: here all of it but the end is
    properties."""
    async with taking(5) as one:
        user = b"\x26\0\1a\xff\xff" + bytes(65_535)
        one.broker.send(one.broker.message(7, GOOD, b"21", properties=user * (MAX_PACKET // len(user) + 1)))
        await eventually(lambda: one.broker.acknowledged == [7], says="it is acknowledged")
        (message,) = one.messages
        assert (message.payload, cut_of(message)) == (b"", 2)


async def test_the_broker_drops_no_large_packets() -> None:
    """CONNECT of MQTT 5 has no Maximum Packet Size (property 0x27): the broker would drop messages without a sign."""
    async with taking(5) as one:
        (connect,) = one.broker.connects
        size = connect[10]
        assert b"\x27" not in connect[11 : 11 + size]
