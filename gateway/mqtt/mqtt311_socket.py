"""paho's socket on the event loop: the loop says when to read and to write, and reading can pause."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from paho.mqtt.client import Client


class PahoSocket:
    """Calls `read` when there is something to read; paho itself writes. One connection at a time."""

    def __init__(self, client: Client, read: Callable[[], None]) -> None:
        self._client = client
        self._read = read
        self._socket: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop
        self.is_reading = False

    @property
    def is_open(self) -> bool:
        return self._socket is not None

    def prepare(self) -> None:
        """Let paho connect in a thread, where it also writes CONNECT."""
        self._client.on_socket_register_write = None

    def open(self) -> bool:
        """Take the socket that paho has connected; return whether it is still open. `resume` begins to read."""
        opened = self._client.socket()
        if not isinstance(opened, socket.socket):
            return False
        self._loop = asyncio.get_running_loop()
        self._socket = opened
        self._client.on_socket_register_write = self._watch_writes
        self._client.on_socket_unregister_write = self._ignore_writes
        self._client.on_socket_close = self._on_close
        return True

    def resume(self) -> None:
        """Read, or read again."""
        if self._socket is not None and not self.is_reading:
            self._loop.add_reader(self._socket, self._read)
            self.is_reading = True

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
