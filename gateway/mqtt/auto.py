"""Choice of the session that a broker needs, as `mqtt.protocol` or the broker's own answer to MQTT 5 says.

A broker that knows only 3.1.1 answers the CONNECT of MQTT 5 with its own CONNACK and return code 1 (MQTT 3.1.1, section
3.2.2.3), closes the connection, or says nothing. The probe is a connection of its own, without a session.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import mqtt5

from gateway.mqtt.broker import Broker
from gateway.mqtt.mqtt5 import Mqtt5Session
from gateway.mqtt.mqtt311 import PahoSession
from gateway.mqtt.session import Access, MakeSession

PROBE_WITHIN = 5.0
TRIES = 2
"""Times that a broker has to leave MQTT 5 unanswered, and answer 3.1.1, to be taken for one of 3.1.1."""
_CONNACK = 0x20
_OLD_CONNACK_LENGTH = 2
"""A CONNACK of 3.1.1 is two bytes long; that of MQTT 5 is longer, since it has properties."""
_OLD_CONNECT = bytes.fromhex("100c00044d515454 04 02 003c 0000")
"""CONNECT of 3.1.1: a clean session, 60 s, no name."""
_DISCONNECT = b"\xe0\x00"


class Version(NamedTuple):
    """Version that a broker speaks: 5, or only 3.1.1. `is_certain` where its own CONNACK says so."""

    speaks_5: bool
    is_certain: bool = True

    @property
    def make(self) -> MakeSession:
        return Mqtt5Session if self.speaks_5 else PahoSession


async def choose(access: Access) -> Version:
    """Return the version that the sessions have to speak.

    Raises:
        BrokerUnreachable: the broker has to be asked, and nobody answers at its address, or not as a broker does.
    """
    match access.settings.protocol:
        case "5":
            return Version(speaks_5=True)
        case "3.1.1":
            return Version(speaks_5=False)
        case "auto":
            return await version_of(access.broker)


async def speaks_5(broker: Broker) -> bool:
    """Return whether the broker answers MQTT 5 in its own terms, even to reject us; False where it knows only 3.1.1.

    Raises:
        BrokerUnreachable: nobody answers at the address, or not as a broker does.
    """
    return (await version_of(broker)).speaks_5


async def version_of(broker: Broker) -> Version:
    """Return the version that the broker speaks.

    Raises:
        BrokerUnreachable: nobody answers at the address, or not as a broker does.
    """
    for _ in range(TRIES):
        head = await _answer(broker, mqtt5.ConnectPacket("", clean_start=True).write())
        if head and head[0] == _CONNACK:
            return Version(head[1] > _OLD_CONNACK_LENGTH)
        if (await _answer(broker, _OLD_CONNECT))[:1] != bytes([_CONNACK]):
            raise broker.closed(", or did not answer, with MQTT 5 and with 3.1.1", "5 or 3.1.1")
    return Version(speaks_5=False, is_certain=False)


async def _answer(broker: Broker, connect: bytes) -> bytes:
    """Return the first two bytes of the answer to a CONNECT, or nothing where there is none.

    Raises:
        BrokerUnreachable: nobody answers at the address.
    """
    try:
        async with asyncio.timeout(PROBE_WITHIN):
            reader, writer = await asyncio.open_connection(broker.host, broker.port, ssl=broker.tls)
    except TimeoutError:
        raise broker.silent("to the connection", PROBE_WITHIN, "5 or 3.1.1") from None
    except (OSError, ValueError) as error:
        raise broker.unreachable(error) from error
    try:
        writer.write(connect)
        async with asyncio.timeout(PROBE_WITHIN):
            head = await reader.readexactly(2)
        writer.write(_DISCONNECT)
    except (TimeoutError, asyncio.IncompleteReadError, OSError):
        return b""
    else:
        return head
    finally:
        writer.close()
