"""What every MQTT session does, on every broker: gateway/mqtt/session.py, held against real brokers."""

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
from gateway.model import Batch, Publish
from gateway.mqtt.auto import make_session
from gateway.mqtt.embedded_broker import EmbeddedBroker
from gateway.mqtt.session import Session
from tests.servers import WITHIN, FlakyProxy, Mosquitto, eventually, need
from tests.servers.mqtt_clients import connect

Broker = Mosquitto | EmbeddedBroker
MakeSession = Callable[..., Session]
SESSIONS = {
    "mosquitto-3.1.1": "3.1.1",
    "mosquitto-5": "5",
    "mosquitto-auto": "auto",
    "amqtt-3.1.1": "3.1.1",
    "amqtt-auto": "auto",
}


@dataclass
class Reader:
    """Reads a session in the background; `acks` may be set off."""

    session: Session
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


@pytest.fixture(params=SESSIONS)
def variant(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def redelivers(variant: str) -> None:
    if variant.startswith("amqtt"):
        pytest.skip("amqtt forgets what was under way when a connection ends; the demo's broker promises no more")


@pytest.fixture
async def broker(variant: str, tmp_path: Path) -> AsyncIterator[Broker]:
    made: Broker = EmbeddedBroker() if variant.startswith("amqtt") else Mosquitto(tmp_path)
    async with made:
        yield made


@pytest.fixture
def make(variant: str) -> MakeSession:
    def make_one(url: str, *filters: str, **settings: Any) -> Session:
        chosen = Mqtt.model_validate({"url": url, "protocol": SESSIONS[variant], **settings})
        return make_session(chosen, filters or ("testbed/#",))

    return make_one


@asynccontextmanager
async def reading(session: Session, *, acks: bool = True) -> AsyncIterator[Reader]:
    """The session runs and is read until the block ends; then it says goodbye."""
    reader = Reader(session, acks)
    tasks = [asyncio.create_task(session.run()), asyncio.create_task(reader.run())]
    try:
        await eventually(lambda: session.state.connected, says="the session connects")
        yield reader
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def publisher(broker: Broker) -> aiomqtt.Client:
    return connect(broker)


async def send(broker: Broker, *payloads: bytes, topic: str = "testbed/acme/a/x", qos: int = 1) -> None:
    async with publisher(broker) as client:
        for payload in payloads:
            await client.publish(topic, payload, qos=qos)


async def test_messages_arrive_in_order_with_topic_and_payload(broker: Broker, make: MakeSession) -> None:
    """What is published arrives, in the order of publishing, byte for byte."""
    async with reading(make(broker.url)) as reader:
        await send(broker, b"1", b"\x00\xff", b"")
        await eventually(lambda: len(reader.messages) == 3)
    assert [message.payload for message in reader.messages] == [b"1", b"\x00\xff", b""]
    assert {message.topic for message in reader.messages} == {"testbed/acme/a/x"}
    assert all(batch.arrived_ns > 0 for batch in reader.batches)


async def test_only_its_own_filters(broker: Broker, make: MakeSession) -> None:
    """A session gets what its filters ask for and nothing else."""
    async with reading(make(broker.url, "testbed/#", "zigbee/+/state")) as reader:
        await send(broker, b"no", topic="other/topic")
        await send(broker, b"yes", topic="zigbee/lamp/state")
        await send(broker, b"last")
        await eventually(lambda: b"last" in reader.payloads)
    assert sorted(reader.payloads) == [b"last", b"yes"]


@pytest.mark.usefixtures("redelivers")
async def test_unacknowledged_messages_come_again(broker: Broker, make: MakeSession) -> None:
    """What was not acknowledged is delivered again on the next connection; what was, is not."""
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


async def test_messages_of_its_absence_wait_at_the_broker(broker: Broker, make: MakeSession) -> None:
    """What is published with QoS 1 while the session is away arrives when it is back."""
    async with reading(make(broker.url)):
        pass
    await send(broker, b"while away")
    async with reading(make(broker.url)) as reader:
        await eventually(lambda: reader.payloads == [b"while away"])


async def test_a_lost_connection_is_taken_up_again(broker: Broker, make: MakeSession) -> None:
    """After the network breaks the session comes back by itself, and nothing of QoS 1 is missing."""
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
async def test_an_acknowledgement_for_an_old_connection_does_nothing(broker: Broker, make: MakeSession) -> None:
    """A batch of a connection that is lost is not acknowledged on the next one: it comes again, and counts there."""
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


async def test_publishing_reaches_others(broker: Broker, make: MakeSession) -> None:
    """What the session publishes arrives at a subscriber, with QoS 0 and 1."""
    async with publisher(broker) as client, reading(make(broker.url)) as reader:
        await client.subscribe("feedback/#", qos=1)
        assert reader.session.publish("feedback/acme/a", b"zero")
        assert reader.session.publish("feedback/acme/a", b"one", qos=1)
        got = [(await anext(client.messages)).payload for _ in range(2)]
    assert sorted(got) == [b"one", b"zero"]


async def test_publishing_while_away_is_dropped_and_told(broker: Broker, make: MakeSession) -> None:
    """Without a connection a message is not kept: the caller is told."""
    assert make(broker.url).publish("feedback/acme/a", b"x") is False


@pytest.mark.usefixtures("redelivers")
async def test_stop_ends_the_batches_after_what_has_arrived(broker: Broker, make: MakeSession) -> None:
    """After `stop` the reader gets what is there already and then ends; later messages wait at the broker."""
    session = make(broker.url)
    running = asyncio.create_task(session.run())
    await eventually(lambda: session.state.connected)
    reader = Reader(session)
    reads = asyncio.create_task(reader.run())
    await send(broker, b"early")
    await eventually(lambda: reader.payloads == [b"early"])
    session.stop()
    await asyncio.wait_for(reads, WITHIN)
    await send(broker, b"late")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    async with reading(make(broker.url)) as again:
        await eventually(lambda: again.payloads == [b"late"])


async def test_a_reader_that_does_not_read_bounds_what_is_delivered(variant: str, tmp_path: Path) -> None:
    """With nobody reading, no more than the bound is taken from the broker, and nothing is lost."""
    if SESSIONS[variant] == "3.1.1" or variant.startswith("amqtt"):
        pytest.skip("the bound is the client's with MQTT 5 alone")
    async with Mosquitto(tmp_path) as broker:
        session = make_session(Mqtt(url=broker.url, in_flight=50), ["testbed/#"])
        running = asyncio.create_task(session.run())
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
        for task in (running, reads):
            task.cancel()
        await asyncio.gather(running, reads, return_exceptions=True)


@pytest.fixture(params=["3.1.1", "5", "auto"])
def protocol(request: pytest.FixtureRequest) -> Any:
    """What `mqtt.protocol` may say."""
    return request.param


@asynccontextmanager
async def tried(session: Session) -> AsyncIterator[Session]:
    """The session runs until the block ends."""
    running = asyncio.create_task(session.run())
    try:
        yield session
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_no_broker_is_told_and_tried_again(tmp_path: Path, protocol: Any) -> None:
    """With no broker the state says where nobody answered; once there is one, the session connects."""
    broker = Mosquitto(tmp_path)
    async with tried(make_session(Mqtt(url=broker.url, protocol=protocol), ["testbed/#"])) as session:
        await eventually(lambda: "no MQTT broker at" in session.state.problem)
        assert str(broker.port) in session.state.problem
        async with broker:
            await eventually(lambda: session.state.connected)


def with_password(directory: Path, name: str, password: str) -> str:
    """The lines of mosquitto.conf for one account."""
    subprocess.run(["mosquitto_passwd", "-b", "-c", directory / name, "gateway", password], check=True)
    return f"allow_anonymous false\npassword_file {directory / name}\n"


async def test_a_wrong_password_is_told_and_a_new_one_taken(tmp_path: Path, protocol: Any) -> None:
    """A broker that refuses the account is told apart from one that is not there, with what to check; the password is
    read again for each try, so that a file that was mended is enough."""
    need("mosquitto_passwd")
    secret = tmp_path / "password"
    secret.write_text("wrong")
    conf = await asyncio.to_thread(with_password, tmp_path, "accounts", "right")
    async with Mosquitto(tmp_path / "mosquitto", conf=conf) as broker:
        settings = Mqtt(url=broker.url, username="gateway", protocol=protocol, password_file=secret)
        async with tried(make_session(settings, ["testbed/#"])) as session:
            await eventually(lambda: "GATEWAY_MQTT_PASSWORD" in session.state.problem)
            secret.unlink()
            await eventually(lambda: "expected a file with one secret" in session.state.problem)
            secret.write_text("right")
            await eventually(lambda: session.state.connected)


@pytest.mark.parametrize(("protocol", "module"), [("3.1.1", "mqtt311"), ("5", "mqtt5")])
async def test_a_broker_that_does_not_answer_is_told(
    protocol: Any, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that takes the connection and says nothing, as brokers do that know only 3.1.1, is given up after a
    bound, with the setting to look at."""
    monkeypatch.setattr(f"gateway.mqtt.{module}.ANSWER_WITHIN", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"mqtt://127.0.0.1:{silent.getsockname()[1]}"
        async with tried(make_session(Mqtt(url=url, protocol=protocol), ["testbed/#"])) as session:
            await eventually(lambda: "mqtt.protocol" in session.state.problem)
