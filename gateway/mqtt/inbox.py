"""Messages on their way from the socket to the reader, which takes all that have arrived as one batch.

Invariant: the packet ids of a batch belong to one connection. Where a new one begins, what the old one left is dropped,
because the broker delivers it again; messages of QoS 0 stay, because they are not delivered again.
"""

from __future__ import annotations

import asyncio

from gateway.model import Batch, Publish


class Inbox:
    """Queue of a session, which adds to `messages`, and to `packet_ids` those of QoS 1; `take` waits for `arrived`."""

    def __init__(self) -> None:
        self.messages: list[Publish] = []
        self.packet_ids: list[int] = []
        self.is_closed = False
        self._arrived_ns = 0
        self._connection = 0
        self._arrived = asyncio.Event()

    def arrived(self, at_ns: int) -> None:
        """Let the reader take the messages. `at_ns` (ns since 1970) is when the last of them were read."""
        self._arrived_ns = at_ns
        if self.messages:
            self._arrived.set()

    def begin(self, connection: int) -> None:
        """Expect the messages of another connection from now on."""
        self._connection = connection
        self.packet_ids = []
        self.messages = [message for message in self.messages if message.qos == 0]

    async def take(self) -> Batch | None:
        """Wait for messages and return all that have arrived; None once the inbox is closed and empty."""
        while True:
            if not self.is_closed:
                await self._arrived.wait()
            self._arrived.clear()
            if self.messages:
                messages, self.messages = self.messages, []
                packet_ids, self.packet_ids = self.packet_ids, []
                return Batch(messages, self._arrived_ns, packet_ids, self._connection)
            if self.is_closed:
                return None

    def close(self) -> None:
        """Wait for no more messages."""
        self.is_closed = True
        self._arrived.set()
