"""A connection of MQTT 5 for looking at the broker: ask, and wait for the answer. Many messages need a session."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

import mqtt5

from gateway.mqtt.broker import Broker
from gateway.mqtt.link import ANSWER_WITHIN
from gateway.mqtt.mqtt5_decoder import Decoder, Packet

READ = 1 << 16
MAX_PACKET = 1 << 16
"""Bytes that are kept of a packet."""
VERSION = "5"

P = TypeVar("P")


class Dialogue:
    """Made by `connected`. Every method raises BrokerUnreachable when the connection is lost."""

    def __init__(self, broker: Broker, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._broker = broker
        self._reader = reader
        self._writer = writer
        self._decoder = Decoder(max_packet=MAX_PACKET)
        self._arrived: deque[Packet] = deque()

    def send(self, packet: Packet) -> None:
        """Send a packet of mqtt5."""
        self._writer.write(packet.write())

    async def answer(self, kind: type[P], to_what: str) -> P:
        """Wait for the next packet of this kind; drop what comes before it.

        Raises:
            BrokerUnreachable: it does not come in time, or the connection is lost.
            PacketMalformed: what came is not MQTT 5.
        """
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                while not isinstance(packet := await self.packet(), kind):
                    pass
                return packet
        except TimeoutError:
            raise self._broker.silent(to_what, ANSWER_WITHIN, VERSION) from None

    async def packet(self) -> Packet:
        """Wait for the next packet.

        Raises:
            BrokerUnreachable: the connection is lost.
            PacketMalformed: what came is not MQTT 5.
        """
        while not self._arrived:
            room = self._decoder.buffer
            try:
                data = await self._reader.read(min(READ, len(room)))
            except OSError as error:
                raise self._broker.lost(error) from error
            if not data:
                raise self._broker.lost("")
            room[: len(data)] = data
            self._arrived += self._decoder.wrote(len(data))
        return self._arrived.popleft()


@asynccontextmanager
async def connected(
    broker: Broker, connect: mqtt5.ConnectPacket
) -> AsyncIterator[tuple[Dialogue, mqtt5.ConnAckPacket]]:
    """Connect; yield the dialogue and the broker's CONNACK, which may reject; disconnect.

    Raises:
        BrokerUnreachable: nobody answers, or the connection is lost.
        PacketMalformed: what answers does not speak MQTT 5.
    """
    try:
        async with asyncio.timeout(ANSWER_WITHIN):
            reader, writer = await asyncio.open_connection(broker.host, broker.port, ssl=broker.tls)
    except TimeoutError:
        raise broker.silent("to the connection", ANSWER_WITHIN, VERSION) from None
    except (OSError, ValueError) as error:
        raise broker.unreachable(error) from error
    dialogue = Dialogue(broker, reader, writer)
    try:
        dialogue.send(connect)
        yield dialogue, await dialogue.answer(mqtt5.ConnAckPacket, "to the connection")
        dialogue.send(mqtt5.DisconnectPacket())
    finally:
        writer.close()
