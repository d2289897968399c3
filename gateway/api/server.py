"""HTTP server of the API and the web page, in the gateway's own event loop."""

from __future__ import annotations

import resource
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import uvicorn
from starlette.types import ASGIApp

from gateway.api import http_protocol
from gateway.api.acceptor import Acceptor
from gateway.api.connections import Connection, Connections, most
from gateway.api.http_protocol import GuardedHttp
from gateway.config.models import Http
from gateway.errors import AddressUnavailable, CertificateUnusable

UNREAD_MS = 60_000
"""Milliseconds after which a connection ends whose client takes nothing of what was sent to it."""

UNSENT = 32 << 10
"""Bytes that the kernel keeps for a connection beyond those on their way. Without a bound these are megabytes, and a
listener that reads nothing is served for minutes, like one that does."""
RECEIVED = 64 << 10
"""Bytes that the kernel keeps for a connection until they are read: without a bound of its own, megabytes."""


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers, since the gateway decides when it stops, and with our own acceptor."""

    def __init__(self, config: uvicorn.Config, listener: socket.socket, connections: Connections) -> None:
        super().__init__(config)
        self._listener = listener
        self._connections = connections

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002  # uvicorn's
        await super().startup(sockets=[])
        self._acceptor = Acceptor(self._listener, self._connections, self._protocol, self.config.ssl)
        self._acceptor.start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002  # uvicorn's
        self._acceptor.stop()
        await super().shutdown()

    def _protocol(self, connection: Connection) -> GuardedHttp:
        return GuardedHttp(connection, self.config, self.server_state, self.lifespan.state)


def _check_certificate(settings: Http) -> None:
    if settings.cert_file is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.cert_file, settings.key_file)
    except OSError as error:  # a missing file, or an invalid one: SSLError is an OSError
        raise CertificateUnusable(
            f"{settings.cert_file}: expected a certificate, and its key in http.key_file; {error.strerror or error}"
        ) from error


class HttpServer:
    """A server that listens from its creation; `run` serves until `stop`."""

    def __init__(self, settings: Http) -> None:
        _check_certificate(settings)
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        try:
            self._socket = socket.create_server((settings.host, settings.port), family=family, backlog=1024)
        except OSError as error:
            raise AddressUnavailable(
                f"cannot listen on {settings.listen}: {error.strerror}; is another gateway running? "
                "See http.listen in gateway.yaml"
            ) from error
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVED)
        # asyncio sets this on sockets that name their protocol, which accepted ones do not. Without it the body of an
        # answer waits for the client's delayed acknowledgement of the head: 40 ms.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):  # Linux and macOS; connections inherit it, and the next
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_MS)
        self._settings = settings
        self.host = settings.host
        self.port: int = self._socket.getsockname()[1]
        self._server: _Server | None = None

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self._settings.cert_file else 'http'}://{host}:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._socket.close()

    async def run(self, application: ASGIApp) -> None:
        """Serve until `stop`; open streams have a second to end."""
        proxies = self._settings.trusted_proxies
        config = uvicorn.Config(
            application,
            http=GuardedHttp,
            ssl_certfile=self._settings.cert_file,
            ssl_keyfile=self._settings.key_file,
            log_level="warning",
            access_log=False,
            log_config=None,  # its loggers go where all others go: gateway.logs
            timeout_graceful_shutdown=1,
            ws="websockets-sansio",
            ws_per_message_deflate=False,  # it computes in the event loop, and takes 256 KiB for each WebSocket
            ws_max_size=http_protocol.MAX_WEBSOCKET_MESSAGE,
            h11_max_incomplete_event_size=http_protocol.MAX_HEAD,
            forwarded_allow_ips=[str(network) for network in proxies],
            server_header=False,
            lifespan="on",
        )
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        limit = most(descriptors, tls=self._settings.cert_file is not None)
        self._server = _Server(config, self._socket, Connections(limit, proxies))
        await self._server.serve()

    def stop(self) -> None:
        if self._server is not None:
            self._server.should_exit = True
