"""Acceptor of HTTP connections.

asyncio's own acceptor accepts a whole backlog at once before it asks anybody, and where descriptors are used up it logs
a traceback for each connection that waits (CPython 3.11). This one asks first, accepts a few at a time so that the data
plane gets its turns, and pauses when descriptors are used up.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress

from gateway.api.connections import Connection, Connections
from gateway.logs import get_logger

AT_ONCE = 1
PAUSE = 0.005
PAUSE_WITHOUT_DESCRIPTORS = 1.0
HANDSHAKE_WITHIN = 10.0

log = get_logger(__name__)


class Acceptor:
    """Accepts from `listener`, from `start` until `stop`. `protocol` makes the protocol of one connection."""

    def __init__(
        self,
        listener: socket.socket,
        connections: Connections,
        protocol: Callable[[Connection], asyncio.BaseProtocol],
        tls: ssl.SSLContext | None,
    ) -> None:
        self._listener = listener
        self._connections = connections
        self._protocol = protocol
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        listener.setblocking(False)
        self._tasks: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._loop.add_reader(self._listener, self._accept)

    def stop(self) -> None:
        """Accept no more; drop the connections that are in their TLS handshake."""
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._listener)
        for task in self._tasks:
            task.cancel()

    def _accept(self) -> None:
        for _ in range(AT_ONCE):
            try:
                accepted, address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                log.warning("no HTTP connection accepted", problem=error.strerror, next="trying again in a second")
                self._pause_for(PAUSE_WITHOUT_DESCRIPTORS)
                return
            self._admit(accepted, address[0])
        self._pause_for(PAUSE)

    def _pause_for(self, seconds: float) -> None:
        self._loop.remove_reader(self._listener)
        self._pause = self._loop.call_later(seconds, self.start)

    def _admit(self, accepted: socket.socket, address: str) -> None:
        connection = self._connections.open(address)
        if connection is None:
            accepted.close()
            return
        task = self._loop.create_task(self._connect(accepted, connection), name="http-connect")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, accepted: socket.socket, connection: Connection) -> None:
        """Hand a connection to its protocol, after its TLS handshake."""
        accepted.setblocking(False)
        connection.end = lambda: _cut_off(accepted)
        try:
            await self._loop.connect_accepted_socket(
                lambda: self._protocol(connection),
                accepted,
                ssl=self._tls,
                ssl_handshake_timeout=HANDSHAKE_WITHIN if self._tls else None,
            )
        except (OSError, asyncio.CancelledError):  # the client left, or does not speak TLS: SSLError is an OSError
            connection.close()
            accepted.close()


def _cut_off(connection: socket.socket) -> None:
    with suppress(OSError):  # the client has left
        connection.shutdown(socket.SHUT_RDWR)
