"""HTTP/1.1 and WebSocket protocols of uvicorn, with bounds on what a peer may send, and for how long.

h11 parses: it bounds what it keeps of an incomplete head, and stops reading while a request is in progress, however
many follow in the same packet. What it rejects is answered with a problem document, and never logged: a peer could
fill the log.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

from gateway.api import problems
from gateway.api.connections import Connection
from gateway.api.security_headers import BARE

MAX_HEAD = 16 * 1024
"""Bytes of request line and headers together."""
MAX_MESSAGE = 512 * 1024
"""Bytes of one request as it is sent, its chunks' headers included."""
MAX_WEBSOCKET_MESSAGE = 64 * 1024
COMPLETE_WITHIN = 10.0
"""Seconds for one request to arrive."""
TAKEN_WITHIN = 60.0
"""Seconds for a peer to take something of an answer that waits for it."""
AT_ONCE = 2 * 1024
"""Bytes read of one connection before the others have their turns: a byte may be a chunk or a frame of its own."""
QUICK = 0.001
"""Seconds of the event loop that the bytes of one read may take, ..."""
PAUSE = 4
"""... or reading pauses for so many times as long."""
MAX_AFTER_CLOSE = 8 * 1024
"""Bytes that a peer may still send after the gateway has closed its WebSocket."""

_buffer = memoryview(bytearray(AT_ONCE))  # one for all: what is in it is copied before anything else is read
_quiet = logging.getLogger("gateway.http")
_quiet.setLevel(logging.ERROR)


class _Patience:
    """A limit on how long a peer may take; `then` is what happens at its end."""

    def __init__(self, seconds: float, then: Callable[[], None]) -> None:
        self._seconds = seconds
        self._then = then
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Begin, unless it has begun."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._then)

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Buffered(asyncio.BufferedProtocol):
    """Protocol that reads into one buffer, which all connections share, and passes on the bytes of one read. A peer
    whose bytes take long to process is read more slowly."""

    data_received: Callable[[bytes], None]
    transport: asyncio.Transport

    def get_buffer(self, _sizehint: int) -> memoryview:
        return _buffer

    def buffer_updated(self, nbytes: int) -> None:
        began = time.perf_counter()
        self.data_received(bytes(_buffer[:nbytes]))
        took = time.perf_counter() - began
        if took > QUICK and not self.is_held_back():
            self.transport.pause_reading()
            asyncio.get_running_loop().call_later(PAUSE * took, _read_again, self.transport)

    def is_held_back(self) -> bool:
        """Return whether uvicorn wants nothing to be read."""
        raise NotImplementedError


def _read_again(transport: asyncio.Transport) -> None:
    protocol = transport.get_protocol()  # a WebSocket's by now, perhaps
    if isinstance(protocol, _Buffered) and not protocol.is_held_back():
        transport.resume_reading()


class GuardedHttp(H11Protocol, _Buffered):
    """HTTP/1.1 of one connection."""

    def __init__(self, connection: Connection, config: Config, server_state: ServerState, app_state: dict[str, Any]):
        super().__init__(config, server_state, {**app_state, "connection": connection})
        self.logger = _quiet
        self.ws_protocol_class = partial(GuardedWebSocket, connection)  # type: ignore[assignment]  # called, no more
        self._connection = connection
        self._received = 0
        self._arriving = _Patience(COMPLETE_WITHIN, self._too_late)
        self._leaving = _Patience(TAKEN_WITHIN, self._cut_off)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._connection.end = transport.abort
        self._arriving.begin()

    def connection_lost(self, exc: Exception | None) -> None:
        self._arriving.end()
        self._leaving.end()
        self._connection.close()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        super().data_received(data)
        self._watch()

    def is_held_back(self) -> bool:
        return bool(self.flow.read_paused)

    def on_response_complete(self) -> None:
        self._connection.rest()
        super().on_response_complete()
        self._watch()

    def _watch(self) -> None:
        """Limit how long a request may arrive, and how much of it; or how long a closing connection takes to end."""
        if self.transport.get_protocol() is not self:
            self._arriving.end()
        elif self.transport.is_closing():
            self._arriving.end()
            self._leaving.begin()
        elif self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._arriving.end()
            self._received = 0
        elif self._received > MAX_MESSAGE:
            self._reject(413, f"expected a request of at most {MAX_MESSAGE} bytes in all; it is longer")
        else:
            self._arriving.begin()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._watch()

    def pause_writing(self) -> None:
        self._leaving.begin()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._leaving.end()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  # uvicorn's message, which says less
        """Answer what is not HTTP, or too long. uvicorn calls this where it handles h11's error."""
        error = sys.exception()
        if isinstance(error, h11.RemoteProtocolError) and error.error_status_hint == 431:
            status = 431 if b"\n" in self.conn.trailing_data[0] else 414
            self._reject(status, f"expected a request line and headers of at most {MAX_HEAD} bytes; they are longer")
        else:
            self._reject(400, "expected a request in HTTP/1.1; it is not valid")

    def _too_late(self) -> None:
        if self._received == 0 and self.conn.their_state is h11.IDLE:
            self._cut_off()
        else:
            self._reject(408, f"expected the whole request within {COMPLETE_WITHIN:g} s; it did not arrive")

    def _reject(self, status: int, detail: str) -> None:
        """Answer with a problem, if no answer has begun, and close the connection."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = bytes(problems.answer(status, detail).body)
            headers = [
                *BARE,
                (b"content-type", problems.MEDIA_TYPE.encode()),
                (b"content-length", b"%d" % len(body)),
                (b"connection", b"close"),
            ]
            for event in (h11.Response(status_code=status, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self._end_request()
        self.transport.close()
        self._watch()

    def _end_request(self) -> None:
        """Let the application see that there is nobody left to answer."""
        cycle: RequestResponseCycle | None = self.cycle  # uvicorn has none before the first request
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()

    def _cut_off(self) -> None:
        self.transport.abort()


class GuardedWebSocket(WebSocketsSansIOProtocol, _Buffered):
    """WebSocket of one connection, from its handshake on."""

    def __init__(self, connection: Connection, config: Config, server_state: ServerState, app_state: dict[str, Any]):
        super().__init__(config, server_state, app_state)
        self.logger = _quiet
        self._connection = connection
        self._leaving = _Patience(TAKEN_WITHIN, lambda: self.transport.abort())
        self._after_close = 0

    def connection_lost(self, exc: Exception | None) -> None:
        self._leaving.end()
        self._connection.close()
        super().connection_lost(exc)

    def is_held_back(self) -> bool:
        return bool(self.read_paused)

    def data_received(self, data: bytes) -> None:
        if self.close_sent:
            self._after_close += len(data)
        if self._after_close > MAX_AFTER_CLOSE:
            self.transport.abort()
        else:
            super().data_received(data)

    def pause_writing(self) -> None:
        self._leaving.begin()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._leaving.end()
        super().resume_writing()

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self._end_closing()

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        super().on_task_complete(task)
        self._end_closing()

    def _end_closing(self) -> None:
        """Limit how long a connection that is closing waits for its peer."""
        if self.transport.is_closing() and not self.disconnected:
            self._leaving.begin()
