"""Network faults that a test can read: a TCP proxy that is cut, stalled and healed."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import ExitStack
from types import TracebackType
from typing import Protocol, Self

from tests.servers.processes import LOOPBACK, free_port

CHUNK = 65536
SLOW_CHUNK = 1024
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Listening(Protocol):
    """Anything of this package that listens: its port, and its URL for the scheme."""

    port: int

    @property
    def url(self) -> str: ...


class FlakyProxy:
    """A TCP proxy in front of a server, on a port of its own that stays the same over cuts.

    `cut()` drops all connections and refuses new ones. `stall()` keeps connections and accepts new ones,
    and forwards nothing, as a network that loses every packet. `heal()` ends both; bytes that were held
    up by a stall are then forwarded, none is lost or reordered. `slow_down(rate)` forwards so many bytes a second on
    their way to the server, all connections together, until `heal()`.
    """

    def __init__(self, target_host: str, target_port: int, *, scheme: str = "tcp") -> None:
        self.port = free_port()
        self.connections = 0  # how many were accepted, ever
        self._target = (target_host, target_port)
        self._scheme = scheme
        self._listener: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._to_server: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()
        self._rate = 0.0
        self._free_at = 0.0

    @classmethod
    def before(cls, server: Listening) -> Self:
        """Make a proxy in front of a server of this package, with the scheme of the server's URL."""
        return cls(LOOPBACK, server.port, scheme=server.url.partition("://")[0])

    @property
    def url(self) -> str:
        """Address at which the proxy listens: scheme, host and port, no slash at the end."""
        return f"{self._scheme}://{LOOPBACK}:{self.port}"

    def cut(self) -> None:
        """Drop all connections and refuse new ones, until `heal()`."""
        self._stop_listening()
        for task in self._tasks:
            task.cancel()
        for writer in self._writers:
            writer.transport.abort()

    def stall(self) -> None:
        """Accept connections and bytes, and forward nothing, until `heal()`."""
        self._flowing.clear()

    def slow_down(self, rate: float) -> None:
        """Forward at most `rate` bytes a second to the server, until `heal()`."""
        self._rate = rate

    def heal(self) -> None:
        """Forward again: end a cut, a stall, a slow link, or all of them."""
        self._rate = 0.0
        self._flowing.set()
        if self._listener is None:
            self._listen()

    async def __aenter__(self) -> Self:
        self.heal()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # the aborted transports close their sockets in the loop's next turn

    def _listen(self) -> None:
        self._listener = socket.create_server((LOOPBACK, self.port), backlog=512)
        self._listener.setblocking(False)
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def _stop_listening(self) -> None:
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def _accept(self) -> None:
        if self._listener is None:
            return
        try:
            client, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):
            return
        client.setblocking(False)
        self.connections += 1
        task = asyncio.create_task(self._serve(client), name=f"proxy connection {self.connections}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: client.close())

    async def _serve(self, client: socket.socket) -> None:
        try:
            with ExitStack() as opened:
                await self._forward(client, opened)
        except* OSError:
            pass  # one side is gone: so is the connection

    async def _forward(self, client: socket.socket, opened: ExitStack) -> None:
        reader, writer = self._own(await asyncio.open_connection(sock=client), opened)
        await self._flowing.wait()
        far_reader, far_writer = self._own(await asyncio.open_connection(*self._target), opened)
        self._to_server.add(far_writer)
        opened.callback(self._to_server.discard, far_writer)
        async with asyncio.TaskGroup() as pumps:
            pumps.create_task(self.pump(reader, far_writer))
            pumps.create_task(self.pump(far_reader, writer))
        for each in (writer, far_writer):
            each.close()
            await each.wait_closed()

    def _own(self, stream: Stream, opened: ExitStack) -> Stream:
        """Take a connection into the care of `cut()` and of the end of its own task."""
        _, writer = stream
        self._writers.add(writer)
        opened.callback(self._writers.discard, writer)
        opened.callback(writer.transport.abort)
        return stream

    async def pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """Forward until the source ends, then end the sink: what was in flight still arrives."""
        while data := await source.read(SLOW_CHUNK if self._rate else CHUNK):
            await self._flowing.wait()
            if self._rate and sink in self._to_server:
                now = time.monotonic()
                self._free_at = max(now, self._free_at) + len(data) / self._rate
                await asyncio.sleep(self._free_at - now)
            sink.write(data)
            await sink.drain()
        await self._flowing.wait()
        sink.write_eof()
