"""Contract of an MQTT session: batches in, acknowledgements and messages out.

tests/contract/test_sessions.py holds each implementation to it:

- The session is persistent (a fixed client id, no clean start): messages that the broker received while it was away
  arrive afterwards.
- `ack` alone acknowledges messages of QoS 1 and 2. What it did not acknowledge, the broker delivers again on the next
  connection.
- What is delivered and not acknowledged is bounded. While messages wait to be taken the socket is not read, so that
  the broker, and not the gateway, holds what is too much.
- What is read of one packet is bounded. A message that is larger arrives cut, so that it can be rejected and
  acknowledged.
- No bytes that a broker sends end anything but their connection, and none make a message that cannot be acknowledged.
- The session restores a lost connection by itself, with growing, jittered pauses, for as long as it takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gateway.config import Mqtt
from gateway.model import Batch
from gateway.mqtt.broker import Broker

CONNECTING_AT_ONCE = 20
"""Sessions of one gateway that connect at the same time: a thousand at once would storm the broker."""
READ_BYTES = 1 << 16
"""Bytes of one read of a socket, so that a session with much to read keeps the others waiting only for a moment."""
MAX_PACKET = 1 << 20
"""Bytes that a session keeps of one packet, unless the largest payload quota needs more. A message that is larger is
cut, acknowledged and rejected, so that its device learns of it."""

NOT_YET = "not connected yet"


@dataclass(frozen=True, slots=True)
class SessionState:
    """State of a session. `problem` says why it is not connected, `NOT_YET` until its first try has ended;
    `connections` counts those since its start."""

    connected: bool
    problem: str = ""
    connections: int = 0


SHOWN = 3


def combined(states: Mapping[str, SessionState]) -> SessionState:
    """Return the state of several sessions together. Its problem names the first of those that are not connected."""
    problems: dict[str, list[str]] = {}
    for name, state in states.items():
        if state.problem:
            problems.setdefault(state.problem, []).append(name)
    return SessionState(
        all(state.connected for state in states.values()),
        "; ".join(_shown(problem, names, len(states)) for problem, names in list(problems.items())[:SHOWN]),
        sum(state.connections for state in states.values()),
    )


def _shown(problem: str, names: Sequence[str], of: int) -> str:
    """Return a problem, with the sessions that have it unless all do."""
    if len(names) == of:
        return problem
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"session {', '.join(names[:SHOWN])}{more}: {problem}"


@dataclass(frozen=True, slots=True)
class SessionSpec:
    """Name of a session at the broker, and what it subscribes to.

    It drops `unwanted` filters, which an earlier run may have subscribed to. `qos` is the highest that it asks for: 0
    is for a session that only looks. One that is not `kept` ends with its connection. `check` is awaited before each
    connection; it raises SessionError where the broker cannot hold this session. `max_packet` bounds, in bytes, what is
    read of one packet.
    """

    client_id: str
    filters: tuple[str, ...] = ()
    unwanted: tuple[str, ...] = ()
    qos: int = 1
    kept: bool = True
    check: Callable[[], Awaitable[None]] | None = None
    max_packet: int = MAX_PACKET


@dataclass(frozen=True, slots=True)
class Access:
    """Access to the broker: what all sessions of a gateway share. `scratch` is where their sockets are read into."""

    settings: Mqtt
    broker: Broker
    connecting: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CONNECTING_AT_ONCE))
    scratch: bytearray = field(default_factory=lambda: bytearray(READ_BYTES))

    @classmethod
    def of(cls, settings: Mqtt) -> Access:
        """Return the access that the settings describe.

        Raises:
            SessionError: a certificate, key or authority cannot be read.
        """
        return cls(settings, Broker.of(settings))


class Source(Protocol):
    """Source of messages."""

    def take(self, limit: int) -> Batch | None:
        """Return the oldest messages that have arrived, at most `limit`; None where there are none."""

    def put_back(self, batch: Batch, done: int) -> Batch:
        """Take back the messages of a batch behind the first `done`; return a batch of those."""

    def resume(self) -> None:
        """Read the socket again, unless messages still wait to be taken."""

    def ack(self, batch: Batch) -> None:
        """Acknowledge every message of the batch. On another connection than the one that brought it this does
        nothing: the broker delivers those messages again."""


class Publisher(Protocol):
    """Publisher of messages."""

    def publish(self, topic: str, payload: bytes, *, qos: int = 0) -> bool:
        """Send a message, without waiting. False where it had to be dropped: not connected, or too many wait."""


class Session(Source, Publisher, Protocol):
    """One connection at a time to one broker."""

    @property
    def state(self) -> SessionState: ...

    @property
    def is_idle(self) -> bool:
        """Whether it is connected and reading, and everything that it has brought is acknowledged."""

    @property
    def is_settled(self) -> bool:
        """Whether everything that it has brought is acknowledged."""

    async def run(self) -> None:
        """Connect, and reconnect when necessary, until cancelled; then disconnect. `state` has the current problem."""

    def subscribe(self, filters: Sequence[str]) -> None:
        """Subscribe to these filters and no others; on a live connection at once."""

    def forget(self) -> None:
        """End the session at the next disconnect, where the protocol can: it is no longer needed."""

    def stop(self) -> None:
        """Receive no more messages. Taking, acknowledging and publishing still work."""


MakeSession = Callable[[Access, SessionSpec, Callable[[], None]], Session]
"""Constructor of a session. The last argument is called when there is something to take."""
