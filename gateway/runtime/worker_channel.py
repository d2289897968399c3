"""The channel between the supervisor and one worker: a socket pair that nobody else has.

    frame = length (4 bytes, big endian), then a pickle of one of `gateway.runtime.worker_messages`

Both ends are the same program run by the same user, as with Python's own multiprocessing.
"""

from __future__ import annotations

import asyncio
import pickle
import socket
from collections.abc import AsyncIterator
from contextlib import suppress

from gateway.logs import get_logger
from gateway.runtime.worker_messages import Message

log = get_logger(__name__)

CONGESTED = 8 << 20
"""Bytes waiting to be sent, above which live events are dropped."""


class WorkerChannel:
    """One end. `send` never waits: check `is_congested` before sending much."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, own: socket.socket) -> WorkerChannel:
        """Return the end that uses an open socket."""
        return cls(*await asyncio.open_unix_connection(sock=own))

    @property
    def is_congested(self) -> bool:
        return self._writer.transport.get_write_buffer_size() > CONGESTED

    def send(self, message: Message) -> None:
        """Send a message; it is lost if the other end is closed."""
        if not self._writer.transport.is_closing():
            data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
            self._writer.write(len(data).to_bytes(4) + data)

    async def messages(self) -> AsyncIterator[Message]:
        """Yield the messages of the other end, until it closes or sends something that this version does not know."""
        while True:
            try:
                size = int.from_bytes(await self._reader.readexactly(4))
                data = await self._reader.readexactly(size)
            except (asyncio.IncompleteReadError, ConnectionError):
                return
            try:
                message = pickle.loads(data)  # noqa: S301  # from ourselves, see above
            except Exception as error:  # any kind: the other end is of another version, after an upgrade in place
                log.warning("a worker and the supervisor run different versions", problem=repr(error), next="restart")
                return
            yield message

    async def close(self) -> None:
        """Send what is waiting, as far as the other end takes it, then close."""
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()
