"""A broker of MQTT 5 that does what a test says: no sessions, no routing, just packets in and packets out."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self

import mqtt5

from gateway.mqtt.mqtt5_decoder import Decoder


class FakeBroker:
    """`async with FakeBroker() as broker`: answers CONNECT, SUBSCRIBE and PINGREQ; the rest is the test's.

    `packets` holds those of every connection, `reads` the bytes of each read.
    """

    def __init__(self) -> None:
        self.connack = mqtt5.ConnAckPacket()
        self.suback = mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE
        self.pongs = True
        self.answers = True
        self.packets: list[Any] = []
        self.reads: list[bytes] = []
        self._writer: asyncio.StreamWriter | None = None

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def of(self, kind: type) -> list[Any]:
        """Return the packets of one kind."""
        return [packet for packet in self.packets if isinstance(packet, kind)]

    def send(self, *packets: Any) -> None:
        """Send packets, or bytes as they are, in one write."""
        assert self._writer is not None
        self._writer.write(b"".join(one if isinstance(one, bytes) else one.write() for one in packets))

    def drop(self) -> None:
        """Close the connection."""
        assert self._writer is not None
        self._writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        decoder = Decoder()
        while data := await reader.read(65_536):
            self.reads.append(data)
            for packet in decoder.feed(data):
                self.packets.append(packet)
                self._answer(packet)
        writer.close()

    def _answer(self, packet: Any) -> None:
        match packet:
            case mqtt5.ConnectPacket() if self.answers:
                self.send(self.connack)
            case mqtt5.SubscribePacket():
                self.send(mqtt5.SubAckPacket(packet.packet_id, [self.suback] * len(packet.topic_filters)))
            case mqtt5.PingReqPacket() if self.pongs:
                self.send(mqtt5.PingRespPacket())

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._server.close()
        if self._writer is not None:
            self._writer.close()
