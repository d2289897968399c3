"""The session that a broker needs, as `mqtt.protocol` or the broker's own answer to MQTT 5 says.

A broker that knows only 3.1.1 answers the CONNECT of MQTT 5 with its own CONNACK and return code 1 (MQTT 3.1.1, section
3.2.2.3), closes the connection, or says nothing. The probe is a connection of its own, without a session.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import mqtt5

from gateway.config import Mqtt
from gateway.errors import SessionError
from gateway.model import Batch
from gateway.mqtt.broker import Broker
from gateway.mqtt.link import BrokerLink
from gateway.mqtt.mqtt5 import Mqtt5Session
from gateway.mqtt.mqtt311 import PahoSession
from gateway.mqtt.session import Session, SessionState

PROBE_WITHIN = 5.0
_CONNACK = 0x20
_OLD_CONNACK_LENGTH = 2
"""A CONNACK of 3.1.1 is two bytes long; that of MQTT 5 is longer, since it has properties."""
_OLD_CONNECT = bytes.fromhex("100c00044d515454 04 02 003c 0000")
"""CONNECT of 3.1.1: a clean session, 60 s, no name."""
_DISCONNECT = b"\xe0\x00"


def make_session(settings: Mqtt, filters: Sequence[str], unwanted: Sequence[str] = ()) -> Session:
    """Return the session that the settings require. It drops `unwanted` filters, which an earlier one may have had."""
    match settings.protocol:
        case "5":
            return Mqtt5Session(settings, filters, unwanted)
        case "3.1.1":
            return PahoSession(settings, filters, unwanted)
        case "auto":
            return AutoSession(settings, filters, unwanted)


class AutoSession:
    """Probes the broker once, then delegates to the session it needs. Implements `gateway.mqtt.session.Session`."""

    def __init__(self, settings: Mqtt, filters: Sequence[str], unwanted: Sequence[str] = ()) -> None:
        self._settings = settings
        self._filters = tuple(filters)
        self._unwanted = tuple(unwanted)
        self._link = BrokerLink(Broker.of(settings), "5 or 3.1.1")
        self._chosen: Session | None = None
        self._is_chosen = asyncio.Event()

    @property
    def state(self) -> SessionState:
        return self._chosen.state if self._chosen else self._link.state

    async def run(self) -> None:
        """Probe until the broker answers, then run the session; see the contract."""
        while self._chosen is None:
            try:
                make = Mqtt5Session if await speaks_5(self._link.broker) else PahoSession
            except SessionError as error:
                self._link.failed(error)
                await self._link.pause()
            else:
                self._chosen = make(self._settings, self._filters, self._unwanted)
                self._is_chosen.set()
        await self._chosen.run()

    async def batches(self) -> AsyncIterator[Batch]:
        """See the contract."""
        await self._is_chosen.wait()
        if self._chosen is not None:
            async for batch in self._chosen.batches():
                yield batch

    def ack(self, batch: Batch) -> None:
        """See the contract."""
        if self._chosen is not None:
            self._chosen.ack(batch)

    def publish(self, topic: str, payload: bytes, *, qos: int = 0) -> bool:
        """See the contract."""
        return self._chosen is not None and self._chosen.publish(topic, payload, qos=qos)

    def subscribe(self, filters: Sequence[str]) -> None:
        """See the contract."""
        self._filters = tuple(filters)
        if self._chosen is not None:
            self._chosen.subscribe(filters)

    def forget(self) -> None:
        """See the contract."""
        if self._chosen is not None:
            self._chosen.forget()

    def stop(self) -> None:
        """See the contract."""
        if self._chosen is not None:
            self._chosen.stop()
        self._is_chosen.set()


async def speaks_5(broker: Broker) -> bool:
    """Return whether the broker answers MQTT 5 in its own terms, even to refuse us; False where it knows only 3.1.1.

    Raises:
        BrokerUnreachable: nobody answers at the address, or not as a broker does.
    """
    head = await _answer(broker, mqtt5.ConnectPacket("", clean_start=True).write())
    if head and head[0] == _CONNACK:
        return head[1] > _OLD_CONNACK_LENGTH
    if (await _answer(broker, _OLD_CONNECT))[:1] != bytes([_CONNACK]):
        raise broker.closed(", or did not answer, with MQTT 5 and with 3.1.1", "5 or 3.1.1")
    return False


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
