"""Answers that are sent in pieces, to clients that may read them slowly, or not at all.

An answer takes the memory of one piece, whatever its length. A client that does not read it at a minimum rate loses it:
its connection is closed before the end of the answer, so that it cannot take what it has for the whole. The server's
sockets have a timeout of their own (`gateway.api.server`), which ends those that take nothing at all.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any, TypeVar

from fastapi import responses
from starlette.types import Receive, Scope, Send

from gateway.api.connections import Connection
from gateway.logs import get_logger

PIECE = 64 << 10
GRACE = 30.0
"""Seconds for which an answer may wait for its client, ..."""
RATE = 16 << 10
"""... and one more each time that the client has taken this number of bytes, or that nothing was sent for a second."""

T = TypeVar("T")

log = get_logger(__name__)


class Patience:
    """Time that one client may still take for what it is sent: `GRACE` at most."""

    def __init__(self) -> None:
        self._left = GRACE
        self._sent_at = time.monotonic()

    @asynccontextmanager
    async def sending(self, size: int) -> AsyncIterator[None]:
        """Bound the time in which the client takes a number of bytes.

        Raises:
            TimeoutError: it has used up its time.
        """
        began = time.monotonic()
        self._left = min(GRACE, self._left + began - self._sent_at)
        async with asyncio.timeout(self._left):
            yield
        self._sent_at = time.monotonic()
        self._left = min(GRACE, self._left + began - self._sent_at + size / RATE)


def cut_off(scope: Scope) -> None:
    """End the connection of a request at once: its client reads too slowly."""
    log.info("answer cut off: its client reads it too slowly")
    connection: Connection | None = scope.get("state", {}).get("connection")
    if connection is not None:
        connection.end()


class StreamingResponse(responses.StreamingResponse):
    """Sends what `content` yields. `held` is closed at the end; `within` bounds the time of the whole answer."""

    def __init__(
        self,
        content: AsyncGenerator[bytes],
        media_type: str | None = None,
        headers: Mapping[str, str] | None = None,
        held: AsyncExitStack | None = None,
        within: float | None = None,
    ) -> None:
        super().__init__(content, headers=headers, media_type=media_type)
        self._content = content
        self._held = held or AsyncExitStack()
        self._within = within

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  # as ASGI has it
        """Send the answer, or as much of it as its client waits for. Starlette itself would use a task group of anyio,
        whose first use takes 20 ms."""
        async with self._held, aclosing(self._content):
            await until(_left(receive), self.stream_response(send))

    async def stream_response(self, send: Send) -> None:
        """Send it, or stop where the client is too slow."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            async with asyncio.timeout(self._within):
                await self._send_body(send)
        except TimeoutError:
            log.info("answer cut off: its client reads it too slowly")
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_body(self, send: Send) -> None:
        patience = Patience()
        async for chunk in self._content:
            for piece in _split(chunk):
                async with patience.sending(len(piece)):
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                await asyncio.sleep(0)  # sending need not wait: let others run


async def until(end: Coroutine[Any, Any, None], work: Coroutine[Any, Any, None]) -> None:
    """Run `work` until it is done, or `end` is."""
    working, ending = asyncio.ensure_future(work), asyncio.ensure_future(end)
    try:
        await asyncio.wait((working, ending), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        working.cancel()
        ending.cancel()
        await asyncio.wait((working, ending))


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def begun(parts: AsyncGenerator[T]) -> AsyncGenerator[T]:
    """Wait for the first part, and return all of them: an error before it can still be the answer."""
    try:
        first = await anext(parts)
    except StopAsyncIteration:
        return parts

    async def again() -> AsyncGenerator[T]:
        async with aclosing(parts):
            yield first
            async for part in parts:
                yield part

    return again()


async def in_pieces(parts: Iterable[bytes]) -> AsyncGenerator[bytes]:
    """Yield what is there already in pieces of about `PIECE` bytes."""
    gathered: list[bytes] = []
    size = 0
    for part in parts:
        gathered.append(part)
        size += len(part)
        if size >= PIECE:
            yield b"".join(gathered)
            gathered, size = [], 0
    if gathered:
        yield b"".join(gathered)


def _split(chunk: bytes) -> Iterator[bytes]:
    for start in range(0, len(chunk), PIECE):
        yield chunk[start : start + PIECE]
