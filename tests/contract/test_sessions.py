"""What every MQTT session does, on every broker: the contract of gateway/mqtt/session.py, on real brokers.

Another session is one line in `VARIANTS`.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from gateway.config import Mqtt
from gateway.model import Batch, Publish, cut_of
from gateway.mqtt.embedded_broker import EmbeddedBroker
from gateway.mqtt.mqtt5 import Mqtt5Session
from gateway.mqtt.mqtt311 import PahoSession
from gateway.mqtt.session import MAX_PACKET, MakeSession
from tests.servers import WITHIN, FlakyProxy, Mosquitto, eventually, need
from tests.servers.mqtt_clients import connect
from tests.sessions import WaitingSession

Broker = Mosquitto | EmbeddedBroker
Make = Callable[..., WaitingSession]


@dataclass(frozen=True)
class Variant:
    """A session on a broker. `redelivers`: the broker delivers again what was not acknowledged. `is_bounded`: the
    session limits how many messages may wait for an acknowledgement, which only MQTT 5 can."""

    session: MakeSession
    broker: Callable[[Path], Broker]
    redelivers: bool = True
    is_bounded: bool = True


def amqtt(_directory: Path) -> EmbeddedBroker:
    return EmbeddedBroker()


VARIANTS = {
    "mosquitto-5": Variant(Mqtt5Session, Mosquitto),
    "mosquitto-3.1.1": Variant(PahoSession, Mosquitto, is_bounded=False),
    "amqtt-3.1.1": Variant(PahoSession, amqtt, redelivers=False, is_bounded=False),
}


@dataclass
class Reader:
    """Reads a session in the background; without `acks` it acknowledges nothing."""

    session: WaitingSession
    acks: bool = True
    batches: list[Batch] = field(default_factory=list)

    @property
    def messages(self) -> list[Publish]:
        return [message for batch in self.batches for message in batch.messages]

    @property
    def payloads(self) -> list[bytes]:
        return [message.payload for message in self.messages]

    async def run(self) -> None:
        async for batch in self.session.batches():
            self.batches.append(batch)
            if self.acks:
                self.session.ack(batch)


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> Variant:
    return VARIANTS[request.param]


@pytest.fixture
def redelivers(variant: Variant) -> None:
    if not variant.redelivers:
        pytest.skip("amqtt forgets what was under way when a connection ends; the demo's broker promises no more")


@pytest.fixture
async def broker(variant: Variant, tmp_path: Path) -> AsyncIterator[Broker]:
    async with variant.broker(tmp_path) as broker:
        yield broker


@pytest.fixture
def make(variant: Variant) -> Make:
    def make_one(url: str, *filters: str, **settings: Any) -> WaitingSession:
        wanted = Mqtt.model_validate({"url": url, **settings})
        return WaitingSession(variant.session, wanted, filters or ("testbed/#",))

    return make_one


@asynccontextmanager
async def running(session: WaitingSession) -> AsyncIterator[WaitingSession]:
    """Run the session until the block ends."""
    task = asyncio.create_task(session.run())
    try:
        yield session
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def reading(session: WaitingSession, *, acks: bool = True) -> AsyncIterator[Reader]:
    """Run the session and read it until the block ends; then it says goodbye."""
    reader = Reader(session, acks)
    reads = asyncio.create_task(reader.run())
    try:
        async with running(session):
            await eventually(lambda: session.state.connected, says="the session connects")
            yield reader
    finally:
        reads.cancel()
        await asyncio.gather(reads, return_exceptions=True)


def publisher(broker: Broker) -> aiomqtt.Client:
    return connect(broker)


async def send(broker: Broker, *payloads: bytes, topic: str = "testbed/acme/a/x", qos: int = 1) -> None:
    async with publisher(broker) as client:
        for payload in payloads:
            await client.publish(topic, payload, qos=qos)


async def test_messages_arrive_in_order_with_topic_and_payload(broker: Broker, make: Make) -> None:
    """Messages arrive in the order of publishing, byte for byte."""
    async with reading(make(broker.url)) as reader:
        await send(broker, b"1", b"\x00\xff", b"")
        await eventually(lambda: len(reader.messages) == 3)
    assert [message.payload for message in reader.messages] == [b"1", b"\x00\xff", b""]
    assert {message.topic for message in reader.messages} == {"testbed/acme/a/x"}
    assert all(batch.arrived_ns > 0 for batch in reader.batches)


async def test_only_matching_messages_arrive(broker: Broker, make: Make) -> None:
    """A session receives the messages that match its filters and no others."""
    async with reading(make(broker.url, "testbed/#", "zigbee/+/state")) as reader:
        await send(broker, b"no", topic="other/topic")
        await send(broker, b"yes", topic="zigbee/lamp/state")
        await send(broker, b"last")
        await eventually(lambda: b"last" in reader.payloads)
    assert sorted(reader.payloads) == [b"last", b"yes"]


@pytest.mark.usefixtures("redelivers")
async def test_unacknowledged_messages_are_delivered_again(broker: Broker, make: Make) -> None:
    """A message without an acknowledgement is delivered again on the next connection; one with it is not."""
    async with reading(make(broker.url), acks=False) as reader:
        await send(broker, b"acked")
        await eventually(lambda: reader.payloads == [b"acked"])
        reader.session.ack(reader.batches[0])
        await send(broker, b"not acked")
        await eventually(lambda: len(reader.messages) == 2)
    async with reading(make(broker.url)) as again:
        await send(broker, b"new")
        await eventually(lambda: b"new" in again.payloads)
    assert again.payloads == [b"not acked", b"new"]


async def test_broker_queues_messages_while_the_session_is_away(broker: Broker, make: Make) -> None:
    """A QoS 1 message that is published while the session is away arrives when it is back."""
    async with reading(make(broker.url)):
        pass
    await send(broker, b"while away")
    async with reading(make(broker.url)) as reader:
        await eventually(lambda: reader.payloads == [b"while away"])


async def test_lost_connection_is_restored(broker: Broker, make: Make) -> None:
    """After the network breaks the session comes back by itself, and no QoS 1 message is missing."""
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(FlakyProxy("127.0.0.1", broker.port))
        reader = await stack.enter_async_context(reading(make(f"mqtt://127.0.0.1:{proxy.port}")))
        await send(broker, b"before")
        await eventually(lambda: reader.payloads == [b"before"])
        proxy.cut()
        await eventually(lambda: not reader.session.state.connected)
        assert reader.session.state.problem
        await send(broker, b"during")
        proxy.heal()
        await eventually(lambda: reader.session.state.connected)
        await eventually(lambda: b"during" in reader.payloads)


@pytest.mark.usefixtures("redelivers")
async def test_acknowledgement_for_a_lost_connection_does_nothing(broker: Broker, make: Make) -> None:
    """A batch of a lost connection is not acknowledged on the next one: it is delivered again, and counts there."""
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(FlakyProxy("127.0.0.1", broker.port))
        reader = await stack.enter_async_context(reading(make(f"mqtt://127.0.0.1:{proxy.port}"), acks=False))
        await send(broker, b"one")
        await eventually(lambda: reader.payloads == [b"one"])
        proxy.cut()
        await eventually(lambda: not reader.session.state.connected)
        proxy.heal()
        await eventually(lambda: len(reader.messages) == 2, says="the message is delivered again")
        old, new = reader.batches
        assert old.connection != new.connection
        reader.session.ack(old)
        reader.session.ack(new)
        await eventually(lambda: reader.session.state.connected)
        reader.session.publish("testbed/acme/a/x", b"behind the acknowledgement")
        await eventually(lambda: len(reader.messages) == 3)
    async with reading(make(broker.url)) as again:
        await send(broker, b"two")
        await eventually(lambda: b"two" in again.payloads)
    assert again.payloads == [b"two"]


async def test_messages_put_back_come_again_and_are_not_acknowledged(broker: Broker, make: Make) -> None:
    """Messages of a batch that nobody processed are taken again, in order; only the others are acknowledged with it."""
    async with running(make(broker.url)) as session:
        await eventually(lambda: session.state.connected)
        await send(broker, b"1", b"2", b"3")
        taken: list[bytes] = []
        async for batch in session.batches():
            done = session.session.put_back(batch, 1)
            assert done.packet_ids == batch.packet_ids[:1]
            session.ack(done)
            taken += [message.payload for message in done.messages]
            if len(taken) == 3:
                break
    assert taken == [b"1", b"2", b"3"]


async def test_nothing_is_read_while_messages_wait(broker: Broker, make: Make) -> None:
    """As long as messages wait to be taken, the session holds what one read brought, and the broker the rest."""
    async with running(make(broker.url, in_flight=65_535)) as session:
        await eventually(lambda: session.state.connected)
        many = [b"x" * 20_000] * 100
        await send(broker, *many)
        reader = Reader(session)
        reads = asyncio.create_task(reader.run())
        await eventually(lambda: len(reader.messages) == len(many))
        assert max(sum(len(one.payload) for one in batch.messages) for batch in reader.batches) < 1_000_000
        reads.cancel()
        await asyncio.gather(reads, return_exceptions=True)


async def test_messages_that_are_too_large_hold_up_nothing(broker: Broker, make: Make) -> None:
    """More of them than may be in flight: each arrives cut, none comes again, and what follows arrives."""
    large = bytes(MAX_PACKET + 5000)
    async with reading(make(broker.url, in_flight=3)) as reader:
        await send(broker, *[large] * 6, b"small")
        await eventually(lambda: b"small" in reader.payloads)
        cut = [message for message in reader.messages if cut_of(message)]
        assert len(cut) == 6
        assert all(len(one.payload) + cut_of(one) == len(large) and len(one.payload) <= MAX_PACKET for one in cut)
    async with reading(make(broker.url)) as again:
        await send(broker, b"new")
        await eventually(lambda: again.payloads == [b"new"])


async def test_published_messages_reach_subscribers(broker: Broker, make: Make) -> None:
    """Messages that the session publishes with QoS 0 and 1 arrive at a subscriber."""
    async with publisher(broker) as client, reading(make(broker.url)) as reader:
        await client.subscribe("feedback/#", qos=1)
        assert reader.session.publish("feedback/acme/a", b"zero")
        assert reader.session.publish("feedback/acme/a", b"one", qos=1)
        got = [(await anext(client.messages)).payload for _ in range(2)]
    assert sorted(got) == [b"one", b"zero"]


async def test_publish_without_a_connection_returns_false(broker: Broker, make: Make) -> None:
    """Without a connection a message is dropped, and the caller knows."""
    assert make(broker.url).publish("feedback/acme/a", b"x") is False


@pytest.mark.usefixtures("redelivers")
async def test_stop_ends_the_batches_after_what_has_arrived(broker: Broker, make: Make) -> None:
    """After `stop` the reader gets what has arrived already and then ends; later messages wait at the broker."""
    async with running(make(broker.url)) as session:
        await eventually(lambda: session.state.connected)
        reader = Reader(session)
        reads = asyncio.create_task(reader.run())
        await send(broker, b"early")
        await eventually(lambda: reader.payloads == [b"early"])
        session.stop()
        async with asyncio.timeout(WITHIN):
            await reads
        await send(broker, b"late")
    async with reading(make(broker.url)) as again:
        await eventually(lambda: again.payloads == [b"late"])


async def test_unacknowledged_messages_are_bounded(variant: Variant, broker: Broker, make: Make) -> None:
    """No more messages than `mqtt.in_flight` are delivered without an acknowledgement, whether somebody reads or not,
    and none is lost."""
    if not variant.is_bounded:
        pytest.skip("only MQTT 5 lets the client set the bound")
    async with running(make(broker.url, in_flight=50)) as session:
        await eventually(lambda: session.state.connected)
        await send(broker, *[b"%d" % i for i in range(500)])
        reader = Reader(session, acks=False)
        reads = asyncio.create_task(reader.run())
        await eventually(lambda: len(reader.messages) == 50)
        reader.acks = True
        for batch in list(reader.batches):
            session.ack(batch)
        await eventually(lambda: len(reader.messages) == 500)
        assert reader.payloads == [b"%d" % i for i in range(500)]
        reads.cancel()
        await asyncio.gather(reads, return_exceptions=True)


@pytest.fixture(params={variant.session.__name__: variant.session for variant in VARIANTS.values()}.values())
def session_type(request: pytest.FixtureRequest) -> MakeSession:
    made: MakeSession = request.param
    return made


async def test_missing_broker_is_reported_and_tried_again(tmp_path: Path, session_type: MakeSession) -> None:
    """Without a broker the state says where nobody answered; once there is one, the session connects."""
    broker = Mosquitto(tmp_path)
    async with running(WaitingSession(session_type, Mqtt(url=broker.url))) as session:
        await eventually(lambda: "no MQTT broker at" in session.state.problem)
        assert str(broker.port) in session.state.problem
        async with broker:
            await eventually(lambda: session.state.connected)


def with_password(directory: Path, name: str, password: str) -> str:
    """Write a password file; return the lines of mosquitto.conf for its one account."""
    subprocess.run(["mosquitto_passwd", "-b", "-c", directory / name, "gateway", password], check=True)
    return f"allow_anonymous false\npassword_file {directory / name}\n"


async def test_wrong_password_is_reported_and_read_again(tmp_path: Path, session_type: MakeSession) -> None:
    """The problem of a rejected account says what to check; each try reads the password again, so that correcting its
    file is enough."""
    need("mosquitto_passwd")
    secret = tmp_path / "password"
    secret.write_text("wrong")
    conf = await asyncio.to_thread(with_password, tmp_path, "accounts", "right")
    async with Mosquitto(tmp_path / "mosquitto", conf=conf) as broker:
        settings = Mqtt(url=broker.url, username="gateway", password_file=secret)
        async with running(WaitingSession(session_type, settings)) as session:
            await eventually(lambda: "GATEWAY_MQTT_PASSWORD" in session.state.problem)
            secret.unlink()
            await eventually(lambda: "expected a file with one secret" in session.state.problem)
            secret.write_text("right")
            await eventually(lambda: session.state.connected)


async def test_unresponsive_broker_is_reported(session_type: MakeSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """The session gives up a server that accepts the connection and says nothing, as some brokers do that know only
    3.1.1, and the problem names the setting to look at."""
    monkeypatch.setattr("gateway.mqtt.link.ANSWER_WITHIN", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"mqtt://127.0.0.1:{silent.getsockname()[1]}"
        async with running(WaitingSession(session_type, Mqtt(url=url))) as session:
            await eventually(lambda: "mqtt.protocol" in session.state.problem)
