"""Messages on their way to the broker (MQTT 5.0, sections 4.4 and 4.9). Pure.

Of those of QoS 1 the broker's Receive Maximum bounds how many are under way; the others wait. On a new connection those
that were under way are sent again. Those of QoS 0 wait while the socket is full, and startups send them in turns. All
together are bounded in bytes, which the startups share.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import chain

from mqtt5 import PublishPacket, QoS

from gateway.mqtt.outgoing import Outgoing, startup_of

_MAX_ID = 65_535
_AROUND = 16
"""Bytes of a PUBLISH that are neither topic nor payload, at most."""


class Outbox:
    """`put` a message, send what is `ready`; `acknowledged` makes room for more."""

    def __init__(self) -> None:
        self.receive_maximum = _MAX_ID
        self.max_packet: int | None = None
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._under_way: dict[int, tuple[str, bytes]] = {}
        self._once: dict[str, deque[tuple[str, bytes]]] = {}
        self._room = Outgoing()
        self._last_id = 0

    def fits(self, topic: str, payload: bytes) -> bool:
        """Return whether the broker takes a packet of that size: MQTT 5.0, section 3.2.2.3.6, forbids a larger one."""
        return self.max_packet is None or len(topic.encode()) + len(payload) + _AROUND <= self.max_packet

    def put(self, topic: str, payload: bytes) -> bool:
        """Keep a message to be sent. False where too many wait, of all or of its startup."""
        if not self._room.take(topic, len(payload)):
            return False
        self._waiting.append((topic, payload))
        return True

    def put_once(self, topic: str, payload: bytes) -> bool:
        """Keep a message of QoS 0 to be sent. False where too many wait, of all or of its startup."""
        if not self._room.take(topic, len(payload)):
            return False
        self._once.setdefault(startup_of(topic), deque()).append((topic, payload))
        return True

    def once(self) -> Iterator[bytes]:
        """Yield the packets of QoS 0, one of each startup in turn."""
        while self._once:
            startup = next(iter(self._once))
            several = self._once.pop(startup)
            topic, payload = several.popleft()
            self._room.give_back(topic, len(payload))
            if several:
                self._once[startup] = several  # behind the others
            yield PublishPacket(topic, payload).write()

    def drop_once(self) -> None:
        """Drop the messages of QoS 0: their connection is lost."""
        for topic, payload in chain.from_iterable(self._once.values()):
            self._room.give_back(topic, len(payload))
        self._once.clear()

    def ready(self) -> Iterator[bytes]:
        """Yield the packets that may be sent now."""
        while self._waiting and len(self._under_way) < self.receive_maximum:
            message = self._waiting.popleft()
            ident = self.next_id()
            self._under_way[ident] = message
            yield _packet(ident, message, again=False)

    def again(self, *, session_present: bool) -> Iterator[bytes]:
        """Yield the packets that the last connection left unacknowledged, marked as duplicates where the broker may
        know them. A message that no longer fits is dropped; those beyond this connection's Receive Maximum wait."""
        for ident in [ident for ident, message in self._under_way.items() if not self.fits(*message)]:
            self.acknowledged(ident)
        beyond = list(self._under_way)[self.receive_maximum :]
        self._waiting.extendleft([self._under_way.pop(ident) for ident in reversed(beyond)])
        for ident, message in self._under_way.items():
            yield _packet(ident, message, again=session_present)

    def acknowledged(self, ident: int) -> tuple[str, bytes] | None:
        """Forget a message, which is the broker's now, and return it."""
        message = self._under_way.pop(ident, None)
        if message is not None:
            self._room.give_back(message[0], len(message[1]))
        return message

    def next_id(self) -> int:
        """Return a packet id that no message under way has."""
        while True:
            self._last_id = self._last_id % _MAX_ID + 1
            if self._last_id not in self._under_way:
                return self._last_id


def _packet(ident: int, message: tuple[str, bytes], *, again: bool) -> bytes:
    topic, payload = message
    return PublishPacket(topic, payload, qos=QoS.AT_LEAST_ONCE, packet_id=ident, duplicate=again).write()
