"""The contract of an MQTT session: batches in, acknowledgements and messages out.

tests/contract/test_sessions.py holds each implementation to it:

- The session is persistent (a fixed client id, no clean start): messages that the broker received while it was away
  arrive afterwards.
- `ack` alone acknowledges messages of QoS 1 and 2. What it did not acknowledge, the broker delivers again on the next
  connection.
- What is delivered and not acknowledged is bounded; while nobody takes batches, the socket is not read.
- The session restores a lost connection by itself, with growing, jittered pauses, for as long as it takes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.model import Batch


@dataclass(frozen=True, slots=True)
class SessionState:
    """State of a session. `problem` says why it is not connected; `connections` counts those since its start."""

    connected: bool
    problem: str = ""
    connections: int = 0


class Session(Protocol):
    """One connection at a time to one broker, for as long as the gateway runs."""

    @property
    def state(self) -> SessionState: ...

    async def run(self) -> None:
        """Connect, and reconnect when necessary, until cancelled; then disconnect. `state` has the current problem."""

    def batches(self) -> AsyncIterator[Batch]:
        """Yield what arrives, to one reader, until `stop`."""

    def ack(self, batch: Batch) -> None:
        """Acknowledge every message of the batch. On another connection than the one that brought it this does
        nothing: the broker delivers those messages again."""

    def publish(self, topic: str, payload: bytes, *, qos: int = 0) -> bool:
        """Send a message, without waiting. False where it had to be dropped: not connected, or too many wait."""

    def subscribe(self, filters: Sequence[str]) -> None:
        """Subscribe to these filters and no others; on a live connection at once."""

    def forget(self) -> None:
        """End the session at the next disconnect, where the protocol can: it is no longer needed."""

    def stop(self) -> None:
        """Receive no more messages; `batches` ends. Acknowledging and publishing still work."""
