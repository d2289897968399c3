"""A broker of MQTT 5 that does what a test says: no sessions, no routing, just packets in and packets out."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self

import mqtt5

from gateway.mqtt.mqtt5_decoder import Decoder


class FakeBroker:
    """`async with FakeBroker() as broker`: answers CONNECT, SUBSCRIBE and PINGREQ; the rest is the test's.

    `packets` holds those of every connection, `reads` the bytes of each read. A test that names no client id sends to
    the newest connection.
    """

    def __init__(self) -> None:
        self.connack = mqtt5.ConnAckPacket(session_present=True)
        self.suback = mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE
        self.pongs = True
        self.answers = True
        self.reading = asyncio.Event()
        self.reading.set()
        self.packets: list[Any] = []
        self.reads: list[bytes] = []
        self._writers: dict[str, asyncio.StreamWriter] = {}
        self._newest: asyncio.StreamWriter | None = None

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def of(self, kind: type) -> list[Any]:
        """Return the packets of one kind."""
        return [packet for packet in self.packets if isinstance(packet, kind)]

    def send(self, *packets: Any, to: str = "") -> None:
        """Send packets, or bytes as they are, in one write."""
        writer = self._writers[to] if to else self._newest
        assert writer is not None
        writer.write(b"".join(one if isinstance(one, bytes) else one.write() for one in packets))

    def drop(self, of: str = "") -> None:
        """Close the newest connection, or that of a client id."""
        writer = self._writers[of] if of else self._newest
        assert writer is not None
        writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._newest = writer
        decoder = Decoder()
        while data := await reader.read(65_536):
            await self.reading.wait()
            self.reads.append(data)
            for packet in decoder.feed(data):
                self.packets.append(packet)
                if isinstance(packet, mqtt5.ConnectPacket):
                    self._writers[packet.client_id] = writer
                if answer := self._answer(packet):
                    writer.write(answer.write())
        writer.close()

    def _answer(self, packet: Any) -> Any:
        match packet:
            case mqtt5.ConnectPacket() if self.answers:
                return self.connack
            case mqtt5.SubscribePacket():
                return mqtt5.SubAckPacket(packet.packet_id, [self.suback] * len(packet.topic_filters))
            case mqtt5.PingReqPacket() if self.pongs:
                return mqtt5.PingRespPacket()
        return None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._server.close()
        for writer in (*self._writers.values(), *([self._newest] if self._newest else [])):
            writer.close()
