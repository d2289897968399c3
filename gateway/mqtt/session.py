"""The contract of an MQTT session: batches in, acknowledgements and messages out.

tests/contract/test_sessions.py holds each implementation to it:

- The session is persistent (a fixed client id, no clean start): what the broker got for it while it was away
  arrives afterwards.
- Nothing of QoS 1 or 2 is acknowledged but by `ack`. What was not, the broker delivers again on the next connection.
- What is delivered and not acknowledged is bounded; a reader that stops reading stops the socket.
- A lost connection is taken up again by itself, with growing, jittered pauses, for as long as it takes.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.model import Batch


@dataclass(frozen=True, slots=True)
class SessionState:
    """How the session is. `since` is seconds since 1970; `problem` says what keeps it from being connected."""

    connected: bool
    since: float
    problem: str = ""
    connections: int = 0


class Session(Protocol):
    """One connection at a time to one broker, for as long as the gateway runs."""

    @property
    def state(self) -> SessionState: ...

    async def run(self) -> None:
        """Connect, and connect again, until cancelled; then say goodbye. `state` tells what is in the way."""

    def batches(self) -> AsyncIterator[Batch]:
        """What arrives, for one reader. Ends after `stop`."""

    def ack(self, batch: Batch) -> None:
        """Acknowledge every message of the batch. On another connection than the one that brought it this does
        nothing: the broker delivers those messages again."""

    def publish(self, topic: str, payload: bytes, *, qos: int = 0) -> bool:
        """Send a message, without waiting. False where it had to be dropped: not connected, or too much waits."""

    def subscribe(self, filters: Sequence[str]) -> None:
        """From now on have these filters, and no others; on a live connection at once."""

    def forget(self) -> None:
        """Nothing will be wanted of this session any more: give it up with the next goodbye, where the protocol can."""

    def stop(self) -> None:
        """Take no more messages in; `batches` ends. Acknowledging and publishing still work."""


def now_state(connected: bool, problem: str = "", connections: int = 0) -> SessionState:
    return SessionState(connected, time.time(), problem, connections)
