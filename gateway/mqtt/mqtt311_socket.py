"""paho's socket on the event loop: the loop says when to read and to write, and reading can pause.

Reading is ours, so that what is kept of a packet is bounded, and no message ends anything: paho gets the other packets,
one at a time.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from paho.mqtt.client import Client, error_string
from paho.mqtt.enums import MQTTErrorCode

from gateway.model import Message
from gateway.mqtt.mqtt311_frames import Frames
from gateway.mqtt.session import READ_BYTES


class PacketSocket:
    """Socket as paho uses one: it writes to it, and reads what it is `given`."""

    def __init__(self, opened: socket.socket) -> None:
        self._opened = opened
        self._given = b""

    def give(self, packet: bytes) -> None:
        """Let paho read a packet."""
        self._given = packet

    def receive(self) -> bytes | None:
        """Return what has arrived, empty at the end of the connection; None where nothing has.

        Raises:
            OSError: the connection is lost.
        """
        with suppress(BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return self._opened.recv(READ_BYTES)
        return None

    def recv(self, size: int) -> bytes:
        if not self._given:
            raise BlockingIOError
        taken, self._given = self._given[:size], self._given[size:]
        return taken

    def send(self, data: bytes) -> int:
        return self._opened.send(data)

    def fileno(self) -> int:
        return self._opened.fileno()

    def setblocking(self, is_blocking: bool) -> None:
        self._opened.setblocking(is_blocking)

    def close(self) -> None:
        self._opened.close()


class PahoClient(Client):
    """paho's client without its reading, and without its timing of pings, which does not know of pauses."""

    def ping(self) -> None:
        """Send PINGREQ."""
        self._send_pingreq()

    def _create_socket(self) -> PacketSocket:  # type: ignore[override]  # paho itself has sockets of its own there
        return PacketSocket(super()._create_socket())  # type: ignore[arg-type]  # not one of those


class PahoSocket:
    """Calls `read` when there is something to read; paho itself writes. One connection at a time."""

    def __init__(self, client: PahoClient, read: Callable[[], None], max_packet: int) -> None:
        self._client = client
        self._read = read
        self._max_packet = max_packet
        self._frames = Frames(max_packet)
        self._socket: PacketSocket | None = None
        self._loop: asyncio.AbstractEventLoop
        self.is_reading = False
        self.heard = 0.0
        """When something arrived, or reading began; silence counts only while something is read."""

    @property
    def is_open(self) -> bool:
        return self._socket is not None

    @property
    def silent_for(self) -> float:
        """Seconds without a byte, while something is read."""
        return self._loop.time() - self.heard if self.is_reading else 0.0

    def prepare(self) -> None:
        """Let paho connect in a thread, where it also writes CONNECT."""
        self._client.on_socket_register_write = None

    def open(self) -> bool:
        """Take the socket that paho has connected; return whether it is still open. `resume` begins to read."""
        opened = self._client.socket()
        if not isinstance(opened, PacketSocket):
            return False
        self._loop = asyncio.get_running_loop()
        self._socket = opened
        self._frames = Frames(self._max_packet)
        self._client.on_socket_register_write = self._watch_writes
        self._client.on_socket_unregister_write = self._ignore_writes
        self._client.on_socket_close = self._on_close
        return True

    def receive(self) -> bytes | None:
        """Return what has arrived, or None.

        Raises:
            OSError: the connection is lost.
        """
        data = self._socket.receive() if self._socket is not None else None
        if data == b"":
            raise ConnectionError
        if data:
            self.heard = self._loop.time()
        return data

    def messages_in(self, data: bytes) -> Iterator[Message]:
        """Yield the messages that the bytes complete, and let paho handle the other packets between them.

        Raises:
            PacketMalformed: a packet is not MQTT 3.1.1.
            ConnectionError: paho has ended the connection.
        """
        for packet in self._frames.feed(data):
            if isinstance(packet, Message):
                yield packet
            elif self._socket is not None:
                self._socket.give(packet)
                if (code := self._client.loop_read()) is not MQTTErrorCode.MQTT_ERR_SUCCESS:
                    raise ConnectionError(error_string(code))

    def resume(self) -> None:
        """Read, or read again."""
        if self._socket is not None and not self.is_reading:
            self._loop.add_reader(self._socket, self._read)
            self.is_reading = True
            self.heard = self._loop.time()
            self._loop.call_soon(self.read_on)  # TLS may hold more that no selector reports

    def read_on(self) -> None:
        """Read, unless reading is paused."""
        if self.is_reading:
            self._read()

    def pause(self) -> None:
        """Stop reading, so that the broker holds the rest."""
        if self._socket is not None and self.is_reading:
            self._loop.remove_reader(self._socket)
        self.is_reading = False

    def close(self) -> None:
        """Close what is left of a connection."""
        if (opened := self._client.socket()) is not None:
            self._on_close(self._client, None, opened)
            opened.close()
        # paho may still know this socket: it would report it once more, closed, when it connects again in a thread.
        self._client.on_socket_unregister_write = None
        self._client.on_socket_close = None

    def _watch_writes(self, _client: Client, _data: Any, opened: Any) -> None:
        self._loop.add_writer(opened, self._client.loop_write)

    def _ignore_writes(self, _client: Client, _data: Any, opened: Any) -> None:
        self._loop.remove_writer(opened)

    def _on_close(self, _client: Client, _data: Any, opened: Any) -> None:
        if opened.fileno() >= 0:
            self._loop.remove_reader(opened)
            self._loop.remove_writer(opened)
        self._socket = None
        self.is_reading = False
