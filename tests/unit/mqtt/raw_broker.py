"""A broker of either MQTT version that sends whatever bytes a test gives it."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self


def packet(first: int, body: bytes) -> bytes:
    """Return a packet: its first byte, the length of its body, and that."""
    digits, left = [], len(body)
    while True:
        left, digit = divmod(left, 128)
        digits.append(digit | (0x80 if left else 0))
        if not left:
            return bytes([first, *digits]) + body


class RawBroker:
    """`async with RawBroker(5) as broker`: answers CONNECT, SUBSCRIBE and, with `pongs`, PINGREQ; it counts its
    `connections` and `pings`.

    `granted` are the codes of a SUBACK. `acknowledged` are the packet ids of the PUBACKs, `published` the bodies of the
    PUBLISH packets that it gets, and `connects` those of the CONNECT packets.
    """

    def __init__(self, version: int) -> None:
        self.version = version
        self.granted = bytes([1])
        self.connections = 0
        self.pings = 0
        self.pongs = True
        self.acknowledged: list[int] = []
        self.published: list[bytes] = []
        self.connects: list[bytes] = []
        self._writers: list[asyncio.StreamWriter] = []
        self._clients: dict[str, asyncio.StreamWriter] = {}

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    @property
    def connack(self) -> bytes:
        """An answer to CONNECT that accepts."""
        return packet(0x20, b"\1\0" + (b"\0" if self.version == 5 else b""))

    def send(self, data: bytes, to: str = "") -> None:
        """Send bytes to a client, or on the newest connection."""
        (self._clients[to] if to else self._writers[-1]).write(data)

    def drop(self) -> None:
        """Close the newest connection, once all is sent."""
        self._writers[-1].close()

    def message(self, ident: int, topic: bytes, payload: bytes = b"{}", properties: bytes = b"", qos: int = 1) -> bytes:
        """Return a PUBLISH, whose topic and properties may be anything."""
        body = len(topic).to_bytes(2) + topic + (ident.to_bytes(2) if qos else b"")
        if self.version == 5:
            body += packet(0, properties)[1:]
        return packet(0x30 | qos << 1, body + payload)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        try:
            while True:
                first = (await reader.readexactly(1))[0]
                size = shift = 0
                while (digit := (await reader.readexactly(1))[0]) & 0x80:
                    size, shift = size | (digit & 0x7F) << shift, shift + 7
                self._answer(writer, first, await reader.readexactly(size | digit << shift))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def _answer(self, writer: asyncio.StreamWriter, first: int, body: bytes) -> None:
        none = b"\0" if self.version == 5 else b""
        match first >> 4:
            case 1:
                self.connects.append(body)
                at = 11 + body[10] if self.version == 5 else 10  # its properties are short
                self._clients[body[at + 2 : at + 2 + int.from_bytes(body[at : at + 2])].decode()] = writer
                writer.write(self.connack)
            case 3:
                size = int.from_bytes(body[:2])
                self.published.append(body)
                if first & 6:
                    writer.write(packet(0x40, body[2 + size : 4 + size]))
            case 4:
                self.acknowledged.append(int.from_bytes(body[:2]))
            case 8:
                writer.write(packet(0x90, body[:2] + none + self.granted))
            case 12:
                self.pings += 1
                if self.pongs:
                    writer.write(packet(0xD0, b""))

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)
