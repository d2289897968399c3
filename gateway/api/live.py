"""Live feed as Server-Sent Events (WHATWG HTML, section 9.2) and over a WebSocket: the same events.

    id: 1763900000000001
    event: reading
    data: {"startup":"acme","device":"th-1",...}

`event: missed` says how many events a listener lost because it was too slow, or away for too long.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, aclosing
from typing import Annotated, TypeVar

from fastapi import APIRouter, Header, Request, WebSocket, status
from pydantic_core import to_json

from gateway.api.access import CurrentServices, ServedStartup, allowed, served_here
from gateway.api.services import Services
from gateway.api.streaming import Patience, StreamingResponse, cut_off, until
from gateway.errors import RequestRejected
from gateway.feeds.live_ring import Chunk, Event, LiveRing
from gateway.model import Reading

KEEP_ALIVE = 15.0
RETRY_MS = 2000
MAX_DIGITS = 20
SENT_AT_ONCE = 16
"""Messages to a WebSocket after which others have their turns."""

T = TypeVar("T")
After = Annotated[str | None, Header(alias="Last-Event-ID")]
router = APIRouter()


class Wanted:
    """Events of a feed that a listener wants; None means all."""

    def __init__(self, measurement: str | None = None, device: str | None = None) -> None:
        self._measurement = measurement
        self._device = device
        self.is_all = measurement is None and device is None

    def __call__(self, event: Event) -> bool:
        of = event.of
        if self._device is not None and of.device != self._device:
            return False
        return self._measurement is None or (isinstance(of, Reading) and of.measurement == self._measurement)


async def sse(feed: LiveRing, wanted: Wanted, after: int | None, may: Callable[[], bool]) -> AsyncGenerator[bytes]:
    """Yield the body of the answer, until the listener may no longer listen, or the startup is removed.

    While nothing else is sent, comments are, so that proxies keep the connection open.
    """
    yield b"retry: %d\n\n" % RETRY_MS
    async with aclosing(feed.follow(after, KEEP_ALIVE)) as chunks:
        async for chunk in chunks:
            if not may():
                return
            yield b": still here\n\n" if chunk.is_silence else await _form(feed, chunk, wanted, _sse_chunk)


async def _form(feed: LiveRing, chunk: Chunk, wanted: Wanted, make: Callable[[Chunk, Wanted], T]) -> T:
    """Return what `make` makes of a chunk, in this listener's turn. Those who want all of it share it: with hundreds of
    listeners, only the first has to have a turn."""
    made: T | None = chunk.forms.get(make) if wanted.is_all else None
    if made is None:
        async with feed.turn():
            made = make(chunk, wanted)
        if wanted.is_all:
            chunk.forms[make] = made
    return made


async def websocket(
    socket: WebSocket, feed: LiveRing, wanted: Wanted, after: int | None, may: Callable[[], bool]
) -> None:
    """Send events as JSON `{"id":…,"event":…,"data":…}` until the client leaves, does not read, or may no longer
    listen."""
    await until(_receive(socket), _send(socket, feed, wanted, after, may))


async def _receive(socket: WebSocket) -> None:
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass  # a listener has nothing to say; only its end matters


async def _send(socket: WebSocket, feed: LiveRing, wanted: Wanted, after: int | None, may: Callable[[], bool]) -> None:
    patience = Patience()
    async with aclosing(feed.follow(after)) as chunks:
        async for chunk in chunks:
            if not may():
                break
            texts = await _form(feed, chunk, wanted, _websocket_chunk)
            for number, text in enumerate(texts):
                try:
                    async with patience.sending(len(text)):
                        await socket.send_text(text)
                except TimeoutError:
                    cut_off(socket.scope)
                    return
                if number % SENT_AT_ONCE == SENT_AT_ONCE - 1:
                    await asyncio.sleep(0)  # sending need not wait: let others run
    await socket.close(status.WS_1008_POLICY_VIOLATION, "this token may no longer listen")


def _websocket_chunk(chunk: Chunk, wanted: Wanted) -> list[str]:
    texts = [
        f'{{"id":{event.id},"event":"{event.kind}","data":{event.json.decode()}}}'
        for event in filter(wanted, chunk.events)
    ]
    return texts if chunk.missed == 0 else [to_json({"event": "missed", "data": _missed(chunk)}).decode(), *texts]


def _sse_chunk(chunk: Chunk, wanted: Wanted) -> bytes:
    parts = []
    if chunk.missed != 0:
        parts.append(b"event: missed\ndata: %s\n\n" % to_json(_missed(chunk)))
    parts += [
        b"id: %d\nevent: %s\ndata: %s\n\n" % (event.id, event.kind.encode(), event.json)
        for event in filter(wanted, chunk.events)
    ]
    return b"".join(parts)


def _missed(chunk: Chunk) -> dict[str, object]:
    return {"count": chunk.missed, "advice": "read the gap from …/telemetry"}


@router.get("/startups/{startup}/live", summary="Live readings and rejections as Server-Sent Events")
async def live(
    request: Request,
    startup: ServedStartup,
    services: CurrentServices,
    last_event_id: After = None,
    measurement: str | None = None,
    device: str | None = None,
) -> StreamingResponse:
    wanted = Wanted(measurement, device)
    token = request.headers["authorization"].partition(" ")[2].strip()
    may = _still_allowed(services, token, startup.slug)
    place = _event_id(last_event_id)
    held = AsyncExitStack()
    held.enter_context(services.limits.followers.place(startup.slug))
    body = sse(services.live.feed(startup.slug), wanted, place, may)
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(body, media_type="text/event-stream", headers=headers, held=held)


@router.websocket("/startups/{startup}/live/ws")
async def live_websocket(
    socket: WebSocket,
    startup: str,
    after: str | None = None,
    measurement: str | None = None,
    device: str | None = None,
) -> None:
    """Send the same events over a WebSocket.

    The token is in the Authorization header or, from a browser, the second subprotocol:
    `new WebSocket(url, ["bearer", token])`.
    """
    services: Services = socket.app.state.services
    token = _websocket_token(socket)
    principal = services.tokens.principal(token)
    if principal is None:
        raise RequestRejected(
            401,
            "expected a token of this test bed in the Authorization header or as the second subprotocol after `bearer`",
        )
    served_here(services, allowed(services, principal, startup))
    place = _event_id(after)
    with services.limits.followers.place(startup):
        await socket.accept(subprotocol="bearer" if "bearer" in _offered(socket) else None)
        may = _still_allowed(services, token, startup)
        await websocket(socket, services.live.feed(startup), Wanted(measurement, device), place, may)


def _still_allowed(services: Services, token: str, startup: str) -> Callable[[], bool]:
    """Return a check of whether a token may still listen: a reload can revoke it or move the startup to another host,
    and the programme can end."""
    known = services.tokens
    principal = known.principal(token)

    def may() -> bool:
        nonlocal known, principal
        if services.tokens is not known:
            known = services.tokens
            principal = known.principal(token)
        try:
            return principal is not None and bool(served_here(services, allowed(services, principal, startup)))
        except RequestRejected:
            return False

    return may


def _websocket_token(socket: WebSocket) -> str:
    kind, _, token = socket.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return token
    offered = _offered(socket)
    return offered[1] if len(offered) == 2 and offered[0] == "bearer" else ""


def _offered(socket: WebSocket) -> list[str]:
    """Return the subprotocols that the client offers; the server must choose one of these or none."""
    return [part.strip() for part in socket.headers.get("sec-websocket-protocol", "").split(",")]


def _event_id(text: str | None) -> int | None:
    if not text:
        return None
    if not text.isascii() or not text.isdecimal() or len(text) > MAX_DIGITS:
        raise RequestRejected(422, f"Last-Event-ID: expected the id of an event, an integer; got {text[:40]!r}")
    return int(text)
