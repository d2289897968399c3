"""The MQTT 5 session packet by packet: what it sends to a broker, and what it does with what a broker sends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import mqtt5
import pytest

from gateway.config import Mqtt
from gateway.mqtt.mqtt5 import Mqtt5Session
from gateway.mqtt.mqtt5_connection import pubacks
from tests.servers import WITHIN, eventually
from tests.sessions import WaitingSession
from tests.unit.mqtt.fake_broker import FakeBroker

Why = mqtt5.DisconnectReasonCode


@asynccontextmanager
async def running(
    broker: FakeBroker, filters: Sequence[str] = ("testbed/#",), unwanted: Sequence[str] = (), **settings: Any
) -> AsyncIterator[WaitingSession]:
    """A session with the broker, until the block ends."""
    session = WaitingSession(Mqtt5Session, Mqtt.model_validate({"url": broker.url, **settings}), filters, unwanted)
    task = asyncio.create_task(session.run())
    try:
        yield session
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def connected(broker: FakeBroker, **settings: Any) -> AsyncIterator[WaitingSession]:
    async with running(broker, **settings) as session:
        await eventually(lambda: session.state.connected)
        yield session


def message(ident: int, payload: bytes = b"{}") -> mqtt5.PublishPacket:
    return mqtt5.PublishPacket("testbed/acme/a/x", payload, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=ident)


async def test_it_requests_a_persistent_bounded_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """CONNECT has the session's name, its expiry, no clean start, the bound, and the account; SUBSCRIBE requests QoS 1
    at most, and the retain flag only on retained copies."""
    monkeypatch.setenv("GATEWAY_MQTT_PASSWORD", "secret")
    settings = {"client_id": "one", "in_flight": 77, "session_expiry": "2h", "username": "gateway"}
    async with FakeBroker() as broker, connected(broker, **settings):
        (connect,), (subscribe,) = broker.of(mqtt5.ConnectPacket), broker.of(mqtt5.SubscribePacket)
    assert (connect.client_id, connect.clean_start, connect.receive_max) == ("one", False, 77)
    assert (connect.session_expiry_interval, connect.keep_alive) == (7200, 30)
    assert (connect.username, connect.password) == ("gateway", b"secret")
    (wanted,) = subscribe.topic_filters
    assert (wanted.pattern, int(wanted.max_qos), wanted.retain_as_published) == ("testbed/#", 1, False)


async def test_one_read_is_one_batch_and_its_acknowledgements_one_write() -> None:
    """Messages that arrive together are one batch; one write acknowledges all of QoS 1 and none of QoS 0."""
    async with FakeBroker() as broker, connected(broker) as session:
        at_most_once = mqtt5.PublishPacket("testbed/acme/a/x", b"0")
        broker.send(message(3), at_most_once, message(500), mqtt5.PingRespPacket(), message(65_535))
        batch = await anext(session.batches())
        assert len(batch.messages) == 4
        broker.reads.clear()
        session.ack(batch)
        await eventually(lambda: len(broker.of(mqtt5.PubAckPacket)) == 3)
        assert [packet.packet_id for packet in broker.of(mqtt5.PubAckPacket)] == [3, 500, 65_535]
        assert broker.reads == [pubacks([3, 500, 65_535])]


@pytest.mark.parametrize("ident", [1, 255, 256, 65_535])
def test_puback_is_what_the_codec_writes(ident: int) -> None:
    """Our PUBACKs are byte for byte those of the codec."""
    assert pubacks([ident]) == mqtt5.PubAckPacket(ident).write()


@pytest.mark.parametrize(
    ("why", "said", "next_step"),
    [
        (Why.SESSION_TAKEN_OVER, "session taken over", "mqtt.client_id"),
        (Why.SERVER_SHUTTING_DOWN, "server shutting down", "broker is back"),
        (Why.RECEIVE_MAX_EXCEEDED, "receive max exceeded", "mqtt.in_flight"),
        (Why.UNSPECIFIED_ERROR, "unspecified error", "the broker's log"),
    ],
)
async def test_disconnect_of_the_broker_is_explained(why: Any, said: str, next_step: str) -> None:
    """The problem has the reason of a DISCONNECT, the broker's own words and what to do; then it connects again."""
    async with FakeBroker() as broker, connected(broker) as session:
        broker.send(mqtt5.DisconnectPacket(reason_code=why, reason_str="as it is"))
        broker.drop()
        await eventually(lambda: not session.state.connected)
        assert f"{said} (as it is)" in session.state.problem
        assert next_step in session.state.problem
        await eventually(lambda: session.state.connected)
        assert session.state.connections == 2


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (mqtt5.ConnAckReasonCode.BAD_USER_NAME_OR_PASSWORD, "GATEWAY_MQTT_PASSWORD"),
        (mqtt5.ConnAckReasonCode.NOT_AUTHORIZED, "GATEWAY_MQTT_PASSWORD"),
        (mqtt5.ConnAckReasonCode.UNSUPPORTED_PROTOCOL_VERSION, "set mqtt.protocol to 3.1.1"),
        (mqtt5.ConnAckReasonCode.SERVER_BUSY, "the broker's log"),
    ],
)
async def test_rejected_connection_is_explained(code: Any, advice: str) -> None:
    """A CONNACK that says no is reported with what to do."""
    async with FakeBroker() as broker:
        broker.connack = mqtt5.ConnAckPacket(reason_code=code)
        async with running(broker) as session:
            await eventually(lambda: "rejected the gateway" in session.state.problem)
            assert advice in session.state.problem


async def test_rejected_subscription_is_reported() -> None:
    """Without its subscription the session is not connected, and names the rejected filter."""
    async with FakeBroker() as broker:
        broker.suback = mqtt5.SubAckReasonCode.NOT_AUTHORIZED
        async with running(broker) as session:
            await eventually(lambda: "rejected the subscription to testbed/#" in session.state.problem)
            assert not session.state.connected


async def test_subscription_rejected_after_a_reload_leaves_the_others() -> None:
    """A filter that is added later and rejected is reported; the session goes on."""
    async with FakeBroker() as broker, connected(broker) as session:
        broker.suback = mqtt5.SubAckReasonCode.NOT_AUTHORIZED
        session.subscribe(["testbed/#", "zigbee/+"])
        await eventually(lambda: "zigbee/+" in session.state.problem)
        assert session.state.connected
        session.subscribe(["testbed/#"])
        await eventually(lambda: len(broker.of(mqtt5.UnsubscribePacket)) == 1)
        assert broker.of(mqtt5.UnsubscribePacket)[0].patterns == ["zigbee/+"]


async def test_unacknowledged_publish_is_sent_again() -> None:
    """A QoS 1 message without a PUBACK is sent again on the next connection, marked as a duplicate where the broker has
    kept the session (MQTT 5.0, section 4.4)."""
    async with FakeBroker() as broker, connected(broker) as session:
        assert session.publish("feedback/acme/a", b"1", qos=1)
        await eventually(lambda: len(broker.of(mqtt5.PublishPacket)) == 1)
        broker.connack = mqtt5.ConnAckPacket(session_present=True)
        broker.drop()
        await eventually(lambda: len(broker.of(mqtt5.PublishPacket)) == 2)
        first, again = broker.of(mqtt5.PublishPacket)
        assert (first.duplicate, again.duplicate) == (False, True)
        assert (first.packet_id, first.payload) == (again.packet_id, again.payload)


async def test_receive_maximum_of_the_broker_is_respected() -> None:
    """The broker's Receive Maximum bounds the QoS 1 messages under way; the others follow its acknowledgements."""
    async with FakeBroker() as broker:
        broker.connack = mqtt5.ConnAckPacket(receive_max=2)
        async with connected(broker) as session:
            assert all(session.publish("feedback/acme/a", b"%d" % i, qos=1) for i in range(3))
            session.publish("feeds/acme/a/x", b"behind them")
            await eventually(lambda: len(broker.of(mqtt5.PublishPacket)) == 3)
            sent = broker.of(mqtt5.PublishPacket)
            assert [packet.payload for packet in sent] == [b"0", b"1", b"behind them"]
            broker.send(mqtt5.PubAckPacket(sent[0].packet_id))
            await eventually(lambda: broker.of(mqtt5.PublishPacket)[-1].payload == b"2")


async def test_packets_above_the_maximum_size_are_not_sent() -> None:
    """`publish` drops a packet above the broker's Maximum Packet Size and returns False. One that was under way on a
    connection that allowed it is dropped too: the broker would end the connection for it, again and again."""
    async with FakeBroker() as broker, connected(broker) as session:
        assert session.publish("feedback/acme/a", b"x" * 500, qos=1)
        await eventually(lambda: len(broker.of(mqtt5.PublishPacket)) == 1)
        broker.connack = mqtt5.ConnAckPacket(session_present=True, max_packet_size=200)
        broker.drop()
        await eventually(lambda: session.state.connections == 2 and session.state.connected)
        assert not session.publish("feedback/acme/a", b"x" * 200, qos=1)
        assert not session.publish("feeds/acme/a/x", b"x" * 200)
        assert session.publish("feeds/acme/a/x", b"x" * 100)
        await eventually(lambda: len(broker.of(mqtt5.PublishPacket)) == 2)
        assert broker.of(mqtt5.PublishPacket)[-1].payload == b"x" * 100


async def test_batch_of_the_last_connection_is_not_acknowledged_on_the_next() -> None:
    """An acknowledgement before or after the CONNACK of the next connection sends nothing: its packet ids are new."""
    async with FakeBroker() as broker, connected(broker) as session:
        batches = session.batches()
        broker.send(message(7))
        batch = await anext(batches)
        reads_on = asyncio.ensure_future(anext(batches))
        broker.answers = False
        broker.drop()
        await eventually(lambda: len(broker.of(mqtt5.ConnectPacket)) == 2)
        session.ack(batch)
        broker.send(broker.connack)
        broker.answers = True
        await eventually(lambda: len(broker.of(mqtt5.SubscribePacket)) == 2)
        session.ack(batch)
        session.publish("feeds/acme/a/x", b"behind it")
        await eventually(lambda: session.state.connected)
        assert broker.of(mqtt5.PubAckPacket) == []
        reads_on.cancel()


@pytest.mark.parametrize("forgets", [False, True])
async def test_session_ends_only_after_forget(forgets: bool) -> None:
    """At goodbye the broker keeps the session, even without subscriptions; after `forget` it ends (MQTT 5.0, section
    3.14.2.2.2)."""
    async with FakeBroker() as broker:
        async with running(broker, filters=()) as session:
            await eventually(lambda: session.state.connected)
            if forgets:
                session.forget()
        await eventually(lambda: len(broker.of(mqtt5.DisconnectPacket)) == 1)
    assert broker.of(mqtt5.DisconnectPacket)[0].session_expiry_interval == (0 if forgets else None)
    assert broker.of(mqtt5.SubscribePacket) == []


async def test_unwanted_filters_are_dropped() -> None:
    """The session unsubscribes from those that it was made with, and those that a reload removed while it was away."""
    async with FakeBroker() as broker:
        async with running(broker, filters=("testbed/#", "lora/+"), unwanted=("old/#",)) as session:
            session.subscribe(["testbed/#"])
            await eventually(lambda: session.state.connected)
        (dropped,) = broker.of(mqtt5.UnsubscribePacket)
        assert sorted(dropped.patterns) == ["lora/+", "old/#"]
        (subscribe,) = broker.of(mqtt5.SubscribePacket)
        assert [one.pattern for one in subscribe.topic_filters] == ["testbed/#"]


async def test_stop_yields_the_waiting_messages_and_ends() -> None:
    """Messages that have arrived before `stop` are one last batch; then the batches end, without waiting for more."""
    async with FakeBroker() as broker:
        broker.connack = mqtt5.ConnAckPacket(receive_max=1)
        async with connected(broker) as session:
            assert session.publish("feedback/acme/a", b"1", qos=1)
            assert session.publish("feedback/acme/a", b"2", qos=1)
            await eventually(lambda: len(broker.of(mqtt5.PublishPacket)) == 1)
            # The PUBACK lets the second message go: when that is here, the session has read what stands before it.
            broker.send(message(1), message(2), mqtt5.PubAckPacket(broker.of(mqtt5.PublishPacket)[0].packet_id))
            await eventually(lambda: len(broker.of(mqtt5.PublishPacket)) == 2)
            session.stop()
            async with asyncio.timeout(WITHIN):
                assert [len(batch.messages) async for batch in session.batches()] == [2]


async def test_silent_broker_is_left() -> None:
    """Without an answer to PINGREQ within one and a half keep-alives the session connects again."""
    async with FakeBroker() as broker:
        broker.pongs = False
        async with connected(broker, keep_alive="1s") as session:
            await eventually(lambda: "has sent nothing" in session.state.problem)
            broker.pongs = True
            await eventually(lambda: session.state.connected)


async def test_broker_that_answers_pings_is_kept() -> None:
    """After several keep-alives the session still has its first connection."""
    async with FakeBroker() as broker, connected(broker, keep_alive="1s") as session:
        await eventually(lambda: len(broker.of(mqtt5.PingReqPacket)) >= 4)
        assert session.state.connected
        assert session.state.connections == 1


async def test_garbage_ends_the_connection_and_nothing_else() -> None:
    """Bytes that are not MQTT 5 are reported, and the session connects again."""
    async with FakeBroker() as broker, connected(broker) as session:
        broker.send(b"\x00\x00")
        await eventually(lambda: "not MQTT 5" in session.state.problem)
        await eventually(lambda: session.state.connected)


# mqtt5 0.8 panics on it; the decoder goes on, but Python reports the error that the panic left behind
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_message_with_a_topic_that_is_not_utf_8_is_acknowledged() -> None:
    """Such a message can be acknowledged: else a broker that lets it through would deliver it for ever."""
    async with FakeBroker() as broker, connected(broker) as session:
        broker.send(b"\x32\x08\x00\x02a\xff\x00\x07\x00x")
        batch = await anext(session.batches())
        session.ack(batch)
        await eventually(lambda: len(broker.of(mqtt5.PubAckPacket)) == 1)
        assert [one.topic for one in batch.messages] == ["a\ufffd"]
        assert broker.of(mqtt5.PubAckPacket)[0].packet_id == 7


@pytest.mark.parametrize("qos", [0, 1])
async def test_a_flooded_feed_leaves_room_for_the_others(qos: int) -> None:
    """While the broker does not read, a startup whose feed has filled its share leaves room for others, whose messages
    all arrive once the broker reads; those of QoS 0 are sent in turns."""
    async with FakeBroker() as broker, connected(broker) as session:
        broker.reading.clear()
        flooded = 0
        while session.publish("feeds/acme/a/x", bytes(65_536), qos=qos):
            flooded += 1
            await asyncio.sleep(0)
        assert 0 < flooded * 65_536 < 64 << 20
        taken = [session.publish("feeds/beta/a/x", b"%d" % number, qos=qos) for number in range(100)]
        assert all(taken)
        broker.reading.set()
        await eventually(lambda: sum(one.topic == "feeds/beta/a/x" for one in broker.of(mqtt5.PublishPacket)) == 100)
        arrived = [one.topic for one in broker.of(mqtt5.PublishPacket)]
        assert qos or arrived.index("feeds/beta/a/x") < flooded - 50, "beta waits for a turn, not behind all of acme"
