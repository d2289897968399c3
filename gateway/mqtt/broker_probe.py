"""Probe of what a broker grants, by two connections that leave nothing behind: the one that subscribes has no session,
the one with a session does not subscribe, and ends it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import mqtt5

from gateway.config import Mqtt
from gateway.errors import BrokerUnreachable
from gateway.mqtt.auto import speaks_5
from gateway.mqtt.broker import Broker, read_account
from gateway.mqtt.dialogue import Dialogue, connected
from gateway.mqtt.grants import SYS, Grants, Needs
from gateway.mqtt.shared_subscriptions import is_mosquitto

AT_ONCE = 100
"""Filters in one SUBSCRIBE."""
_FAILURE = 0x80


async def probe(settings: Mqtt, needs: Needs) -> Grants:
    """Return what the broker grants the gateway's account.

    Raises:
        SessionError: the broker cannot be reached, or rejects the account.
    """
    broker = await asyncio.to_thread(Broker.of, settings)
    if settings.protocol == "3.1.1" or not await speaks_5(broker):
        return Grants(speaks_5=False)
    username, password = await asyncio.to_thread(read_account, settings)

    def connect(number: int, expiry: int) -> mqtt5.ConnectPacket:
        return mqtt5.ConnectPacket(
            f"{settings.client_id}._probe-{number}",
            username=username,
            password=password,
            clean_start=True,
            session_expiry_interval=expiry,
            receive_max=1,
        )

    async with connected(broker, connect(1, needs.session_expiry)) as (first, connack):
        _accepted(broker, connack)
        async with connected(broker, connect(2, 0)) as (second, another):
            _accepted(broker, another)
            rejected = await _rejected(second, (*needs.filters, SYS))
            several = await _is_alive(first)
        first.send(mqtt5.DisconnectPacket(session_expiry_interval=0))
    shared = connack.shared_subscription_available
    forgets_shared = needs.shares and shared and await is_mosquitto(settings, broker)
    granted = connack.session_expiry_interval
    return Grants(
        speaks_5=True,
        session_expiry=needs.session_expiry if granted is None else granted,
        receive_maximum=connack.receive_max,
        max_packet_size=connack.max_packet_size,
        max_qos=int(connack.max_qos),
        retain=connack.retain_available,
        wildcards=connack.wildcard_subscription_available,
        shared=shared,
        forgets_shared=forgets_shared,
        assigned_client_id=connack.assigned_client_id,
        server_keep_alive=connack.server_keep_alive,
        rejected=rejected,
        several_connections=several,
    )


def _accepted(broker: Broker, connack: mqtt5.ConnAckPacket) -> None:
    if int(connack.reason_code) >= _FAILURE:
        raise broker.rejected(connack.reason_code.name.lower().replace("_", " "))


async def _rejected(dialogue: Dialogue, filters: Sequence[str]) -> tuple[str, ...]:
    """Subscribe to the filters; return those that the broker rejects."""
    rejected: list[str] = []
    for start in range(0, len(filters), AT_ONCE):
        some = filters[start : start + AT_ONCE]
        wanted = [mqtt5.TopicFilter(name, retain_handling=mqtt5.RetainHandling.SEND_NEVER) for name in some]
        dialogue.send(mqtt5.SubscribePacket(1, wanted))
        codes = (await dialogue.answer(mqtt5.SubAckPacket, "to the subscription")).reason_codes
        rejected += [name for name, code in zip(some, codes, strict=True) if int(code) >= _FAILURE]
    return tuple(rejected)


async def _is_alive(dialogue: Dialogue) -> bool:
    dialogue.send(mqtt5.PingReqPacket())
    try:
        await dialogue.answer(mqtt5.PingRespPacket, "to a ping")
    except BrokerUnreachable:
        return False
    return True
