"""Edge of the HTTP application, API and web page alike: what is decided before anybody else sees a request.

The head of a request alone decides who asks; its body is read only for those who may ask, and only up to its
limit. So FastAPI, which reads a body before it asks who sent it, gets complete and small ones.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Hashable, Iterable

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.api import docs_page, problems, security_headers
from gateway.api.connections import Connection, subscriber
from gateway.api.guesses import WINDOW
from gateway.api.services import Services

MAX_BODY = 64 * 1024
MAX_ANONYMOUS_BODY = 16 * 1024
MAX_URL = 8 * 1024
MAX_HEADERS = 100
BETWEEN_MESSAGES = 0.01
"""Seconds between two messages of a WebSocket's client, which are clicks and choices on the web page."""
SPREAD = 100
"""Number of different moments at which delayed answers to wrong tokens are due, so that not all are due at once."""

API = "/v1"
METRICS = "/metrics"
PROBES = ("/healthz", "/readyz")


class Edge:
    """ASGI application around the whole application."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app = app
        self._services = services
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        send = _with_security_headers(scope, send)
        headers = Headers(scope=scope)
        scope.setdefault("state", {})
        rejection = _too_long(scope) or await self._identify(scope, headers)
        if rejection is None and scope["type"] == "http":
            limit = MAX_BODY if scope["state"].get("principal") else MAX_ANONYMOUS_BODY
            rejection, receive = await _with_body(headers, receive, limit)
        if scope["type"] == "websocket":
            receive = _slowly(receive)
        await self._services.limits.begin(_owner(scope))
        if rejection is None:
            await self._app(scope, receive, send)
        else:
            rejection.headers["connection"] = "close"
            await rejection(scope, receive, send)

    async def _identify(self, scope: Scope, headers: Headers) -> Response | None:
        """Note who asks in `scope["state"]`; return the answer to those who may not."""
        state = scope["state"]
        connection: Connection | None = state.get("connection")
        token = token_of(headers, scope["type"])
        if _takes_tokens(scope["path"]) and (token or not _is_for_anybody(scope["path"])):
            principal = self._services.tokens.principal(token) if token else None
            state["principal"] = principal
            if principal is None:
                return await self._strange(scope, token)
            if connection is not None:
                connection.vouch()
        elif connection is not None and not connection.serve_anonymous():
            return problems.answer(503, "too many requests without a token are in progress", {"Retry-After": "5"})
        return None

    async def _strange(self, scope: Scope, token: str) -> Response:
        """Return the answer to a wrong token, or to none: sooner or later."""
        if not token:
            return _unauthorized("none")
        address = scope["client"][0] if scope.get("client") else ""
        delay = self._services.guesses.wrong(address, time.monotonic())
        if not delay:
            return _unauthorized("an unknown token")
        self._held += 1
        await asyncio.sleep(delay * (1 + self._held % SPREAD / SPREAD))
        return problems.answer(
            429, "too many wrong tokens; a right one is accepted at once", {"Retry-After": f"{WINDOW:.0f}"}
        )


def _owner(scope: Scope) -> Hashable:
    """Return whose turn a request takes: that of the principal, or of the address that it comes from."""
    return scope["state"].get("principal") or subscriber(scope["client"][0] if scope.get("client") else "")


def token_of(headers: Headers, kind: str) -> str:
    """Return the bearer token of a request (RFC 6750), or of a WebSocket's subprotocols; empty if there is none."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    if kind == "websocket":
        offered = [part.strip() for part in headers.get("sec-websocket-protocol", "").split(",")]
        if len(offered) == 2 and offered[0] == "bearer":
            return offered[1]
    return ""


def _takes_tokens(path: str) -> bool:
    return path in (API, METRICS, *PROBES) or path.startswith(f"{API}/")


def _is_for_anybody(path: str) -> bool:
    return path in PROBES


def _unauthorized(got: str) -> Response:
    return problems.answer(
        401,
        f"expected the header `Authorization: Bearer TOKEN` with a token of this test bed; got {got}",
        {"WWW-Authenticate": "Bearer"},
    )


def _too_long(scope: Scope) -> Response | None:
    if len(scope.get("raw_path", b"")) + len(scope["query_string"]) > MAX_URL:
        return problems.answer(414, f"expected a URL of at most {MAX_URL} bytes; it is longer")
    if len(scope["headers"]) > MAX_HEADERS:
        return problems.answer(431, f"expected at most {MAX_HEADERS} headers; got {len(scope['headers'])}")
    return None


async def _with_body(headers: Headers, receive: Receive, limit: int) -> tuple[Response | None, Receive]:
    """Read the body; return a channel that has it, or the answer to one that is too long."""
    too_long = problems.answer(413, f"expected a body of at most {limit} bytes; it is longer")
    if "transfer-encoding" not in headers and headers.get("content-length", "0") == "0":
        return None, receive
    if int(headers.get("content-length", 0)) > limit:
        return too_long, receive
    parts: list[bytes] = []
    left = limit
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None, _first([message], receive)
        parts.append(message.get("body", b""))
        left -= len(parts[-1])
        if left < 0:
            return too_long, receive
        if not message.get("more_body", False):
            return None, _first([{"type": "http.request", "body": b"".join(parts), "more_body": False}], receive)


def _slowly(receive: Receive) -> Receive:
    """Return a channel that waits for `BETWEEN_MESSAGES` after each message; meanwhile nothing is read."""

    async def channel() -> Message:
        message = await receive()
        if message["type"] == "websocket.receive":
            await asyncio.sleep(BETWEEN_MESSAGES)
        return message

    return channel


def _first(messages: Iterable[Message], receive: Receive) -> Receive:
    """Return a channel that has these messages before those of another."""
    waiting = iter(messages)

    async def channel() -> Message:
        message = next(waiting, None)
        return await receive() if message is None else message

    return channel


def _with_security_headers(scope: Scope, send: Send) -> Send:
    path = scope["path"]
    is_data = _takes_tokens(path) or path == docs_page.SCHEMA
    more = security_headers.BARE if is_data else security_headers.PAGE
    is_over_tls = scope["scheme"] in ("https", "wss")

    async def sending(message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            headers = list(message.get("headers", []))
            present = {name for name, _ in headers}
            headers += [header for header in more if header[0] not in present]
            if is_over_tls:
                headers = security_headers.with_secure_cookies(headers) + security_headers.OVER_TLS
            message = {**message, "headers": headers}
        await send(message)

    return sending
