"""Messages on their way from a socket to whoever takes them.

Invariant: the packet ids of a batch belong to one connection. Where a new one begins, what the old one left is dropped,
because the broker delivers it again; messages of QoS 0 stay, because they are not delivered again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from gateway.model import Batch, Publish


class Inbox:
    """Queue of a session, which adds to `messages`. `filled` is called when there is something to take."""

    def __init__(self, filled: Callable[[], None]) -> None:
        self.messages: list[Publish] = []
        self.is_closed = False
        self._filled = filled
        self.unacknowledged = 0
        """Messages that were taken on this connection, and are neither acknowledged nor put back."""
        self._arrived_ns = 0
        self._connection = 0

    def arrived(self, at_ns: int) -> None:
        """Announce the messages. `at_ns` (ns since 1970) is when the last of them were read."""
        self._arrived_ns = at_ns
        if self.messages:
            self._filled()

    @property
    def is_settled(self) -> bool:
        """Whether everything that has arrived is taken and acknowledged."""
        return not self.messages and not self.unacknowledged

    def begin(self, connection: int) -> None:
        """Expect the messages of another connection from now on."""
        self._connection = connection
        self.unacknowledged = 0
        self.messages = [message for message in self.messages if message.qos == 0]

    def take(self, limit: int) -> Batch | None:
        """Return the oldest messages, at most `limit`; None where there are none."""
        if not self.messages:
            return None
        if len(self.messages) <= limit:
            taken, self.messages = self.messages, []
        else:
            taken, self.messages = self.messages[:limit], self.messages[limit:]
        self.unacknowledged += len(taken)
        return Batch(taken, self._arrived_ns, self._connection)

    def put_back(self, batch: Batch, done: int) -> Batch:
        """Take back the messages behind the first `done`; return a batch of those."""
        rest = batch.messages[done:]
        if batch.connection == self._connection:
            self.unacknowledged -= len(rest)
        else:  # the broker delivers the others again
            rest = [message for message in rest if message.qos == 0]
        self.messages[:0] = rest
        return replace(batch, messages=batch.messages[:done])

    def acknowledged(self, batch: Batch) -> None:
        """Note that all messages of a batch are acknowledged."""
        if batch.connection == self._connection:
            self.unacknowledged -= len(batch.messages)

    def close(self) -> None:
        """Expect no more messages; those that have arrived can be taken."""
        self.is_closed = True
