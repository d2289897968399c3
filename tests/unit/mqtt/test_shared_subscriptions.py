"""Brokers that can hold the session of a startup with several hosts, and those that cannot."""

from __future__ import annotations

import mqtt5
import pytest

from gateway.config import Mqtt
from gateway.errors import SessionRejected
from gateway.mqtt.session import Access
from gateway.mqtt.shared_subscriptions import VERSION, expect_shared_subscriptions
from tests.unit.mqtt.fake_broker import FakeBroker


class Broker(FakeBroker):
    """Broker that reports its version before it answers a ping, as a retained message."""

    version = ""

    def _answer(self, packet: object) -> object:
        if isinstance(packet, mqtt5.PingReqPacket) and self.version:
            self.send(mqtt5.PublishPacket(VERSION, self.version.encode(), retain=True))
        return super()._answer(packet)


async def ask(broker: FakeBroker, protocol: str = "5") -> None:
    await expect_shared_subscriptions(Access.of(Mqtt.model_validate({"url": broker.url, "protocol": protocol})))


@pytest.mark.parametrize("version", ["", "rmqtt/0.24"])
async def test_a_broker_that_keeps_them(version: str) -> None:
    """One that is no Mosquitto, whether or not it shows its version; it is asked by a connection without a session."""
    async with Broker() as broker:
        broker.version = version
        await ask(broker)
        assert all(packet.clean_start for packet in broker.of(mqtt5.ConnectPacket))


@pytest.mark.parametrize(
    ("version", "assigned"), [("mosquitto version 2.0.11", None), ("", "auto-6C81A5F5-1B07-4D3C-8C1B-5E5B0F5D1B2A")]
)
async def test_mosquitto_forgets_them(version: str, assigned: str | None) -> None:
    """It is known by its version or, where it retains nothing, by the client ids that it assigns; the error says what
    would be lost, and what to do."""
    async with Broker() as broker:
        broker.version = version
        broker.connack = mqtt5.ConnAckPacket(assigned_client_id=assigned)
        with pytest.raises(SessionRejected, match="Mosquitto forgets them when it restarts.*name one host"):
            await ask(broker)


async def test_a_broker_that_has_none() -> None:
    """It says so in its CONNACK."""
    async with Broker() as broker:
        broker.connack = mqtt5.ConnAckPacket(shared_subscription_available=False)
        with pytest.raises(SessionRejected, match="enable them there"):
            await ask(broker)


async def test_a_session_of_3_1_1() -> None:
    """It cannot know whether the broker has them."""
    async with Broker() as broker:
        with pytest.raises(SessionRejected, match="they need MQTT 5"):
            await ask(broker, "3.1.1")
