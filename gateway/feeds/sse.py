"""The live feed as Server-Sent Events (WHATWG HTML, section 9.2) and over a WebSocket: the same events.

    id: 1763900000000001
    event: reading
    data: {"startup":"acme","device":"th-1",...}

`event: missed` says how many events were lost to a listener that was too slow, or was away for too long.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from fastapi import WebSocket, status
from pydantic_core import from_json, to_json

from gateway.feeds.live import Chunk, Event, Feed
from gateway.model import Reading

KEEP_ALIVE = 15.0
RETRY_MS = 2000


class Wanted:
    """Which events of a feed a listener wants; None means all."""

    def __init__(self, measurement: str | None = None, device: str | None = None) -> None:
        self._measurement = measurement
        self._device = device

    def __call__(self, event: Event) -> bool:
        of = event.of
        if self._device is not None and of.device != self._device:
            return False
        return self._measurement is None or (isinstance(of, Reading) and of.measurement == self._measurement)


async def sse(feed: Feed, wanted: Wanted, after: int | None, may: Callable[[], bool]) -> AsyncGenerator[bytes]:
    """The body of the answer. A comment goes out when nothing else does, so that proxies keep the line open. It ends
    when the listener may listen no more."""
    yield b"retry: %d\n\n" % RETRY_MS
    async with aclosing(_chunks_or_silence(feed, after)) as chunks:
        async for chunk in chunks:
            if not may():
                return
            yield _sse_chunk(chunk, wanted) if chunk else b": still here\n\n"


async def websocket(socket: WebSocket, feed: Feed, wanted: Wanted, after: int | None, may: Callable[[], bool]) -> None:
    """Send events as JSON texts `{"id":…,"event":…,"data":…}` until the other side goes, or may listen no more."""
    async with asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(_send(socket, feed, wanted, after, may), name="websocket-send")
        await _until_gone(socket)
        sending.cancel()


async def _send(socket: WebSocket, feed: Feed, wanted: Wanted, after: int | None, may: Callable[[], bool]) -> None:
    async with aclosing(feed.follow(after)) as chunks:
        async for chunk in chunks:
            if not may():
                await socket.close(status.WS_1008_POLICY_VIOLATION, "this token may not listen any more")
                return
            if chunk.missed != 0:
                await socket.send_text(to_json({"event": "missed", "data": _missed(chunk)}).decode())
            for event in filter(wanted, chunk.events):
                body = {"id": event.id, "event": event.kind, "data": from_json(event.json)}
                await socket.send_text(to_json(body).decode())


async def _until_gone(socket: WebSocket) -> None:
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass


async def _chunks_or_silence(feed: Feed, after: int | None) -> AsyncGenerator[Chunk | None]:
    """Chunks, and None after each `KEEP_ALIVE` seconds without one."""
    async with aclosing(feed.follow(after)) as chunks:
        waiting: asyncio.Task[Chunk] | None = None
        try:
            while True:
                waiting = waiting or asyncio.ensure_future(anext(chunks))
                await asyncio.wait((waiting,), timeout=KEEP_ALIVE)
                if not waiting.done():
                    yield None
                    continue
                chunk, waiting = waiting.result(), None
                yield chunk
        finally:
            if waiting is not None:
                waiting.cancel()
                await asyncio.wait((waiting,))


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
