"""Check whether a broker can hold the session of a startup that several hosts share.

It must know shared subscriptions, and keep them as it keeps sessions. Mosquitto does not: what is published between its
restart and the hosts' next SUBSCRIBE reaches no one, although it was acknowledged.
"""

from __future__ import annotations

import asyncio

import mqtt5

from gateway.config import Mqtt
from gateway.errors import SessionRejected
from gateway.mqtt.auto import speaks_5
from gateway.mqtt.broker import Broker, read_account
from gateway.mqtt.dialogue import Dialogue, connected
from gateway.mqtt.session import Access

VERSION = "$SYS/broker/version"
MOSQUITTO_IDS = "auto-"
"""Beginning of the client ids that Mosquitto assigns: where it retains nothing, it does not show its version."""
FORGETS = "Mosquitto forgets them when it restarts: what arrives until the hosts have subscribed again is lost"
_FAILURE = 0x80


async def expect_shared_subscriptions(access: Access) -> None:
    """Raise unless the broker keeps shared subscriptions; it is asked by a connection that leaves nothing behind.

    Raises:
        SessionRejected: it has no shared subscriptions, or does not keep them.
        SessionError: it cannot be reached, or rejects the account.
    """
    broker, settings = access.broker, access.settings
    problem = ""
    if settings.protocol == "3.1.1" or (settings.protocol == "auto" and not await speaks_5(broker)):
        problem = "they need MQTT 5, and it speaks 3.1.1"
    elif await is_mosquitto(settings, broker):
        problem = FORGETS
    if problem:
        raise SessionRejected(
            f"the broker at {broker} cannot share a startup's messages among several hosts by shared subscriptions: "
            f"{problem}; name one host in the startup's file, or use a broker that keeps them"
        )


async def is_mosquitto(settings: Mqtt, broker: Broker) -> bool:
    """Return whether the broker is a Mosquitto, by its version or by the client id that it assigns.

    Raises:
        SessionRejected: it rejects the account, or has no shared subscriptions.
        SessionError: it cannot be reached.
    """
    username, password = await asyncio.to_thread(read_account, settings)
    hello = mqtt5.ConnectPacket("", username=username, password=password, clean_start=True)
    async with connected(broker, hello) as (dialogue, connack):
        if int(connack.reason_code) >= _FAILURE:
            raise broker.rejected(connack.reason_code.name.lower().replace("_", " "))
        if not connack.shared_subscription_available:
            raise SessionRejected(f"the broker at {broker} has no shared subscriptions: enable them there")
        if (connack.assigned_client_id or "").startswith(MOSQUITTO_IDS):
            return True
        return "mosquitto" in (await _version(dialogue)).lower()


async def _version(dialogue: Dialogue) -> str:
    """Return the version that the broker retains in `$SYS`; empty where there is none, or we may not read it."""
    dialogue.send(mqtt5.SubscribePacket(1, [mqtt5.TopicFilter(VERSION)]))
    await dialogue.answer(mqtt5.SubAckPacket, "to the subscription")
    dialogue.send(mqtt5.PingReqPacket())
    while not isinstance(packet := await dialogue.packet(), mqtt5.PingRespPacket):
        if isinstance(packet, mqtt5.PublishPacket):
            return packet.payload.decode(errors="replace")
    return ""
