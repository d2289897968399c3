"""What went over the connections to the broker: when each message arrived, and when it was acknowledged.

A parser of its own, so that it does not share the gateway's mistakes. Messages are JSON with a number in `seq`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.powercut.recording import Event, Kind

CONNECT, PUBLISH, PUBACK = 1, 3, 4
MQTT5 = 5
FAILED = 0x80


class Exchange(NamedTuple):
    """A message that was delivered to the gateway, or acknowledged by it: before the event `moment`, counted from 1."""

    moment: int
    startup: str
    number: int
    acknowledged: bool


@dataclass
class _Connection:
    """One connection of the gateway: its bytes in both directions, and the messages in flight by packet id."""

    level: int = 0
    sent: bytearray = field(default_factory=bytearray)
    received: bytearray = field(default_factory=bytearray)
    in_flight: dict[int, tuple[str, int]] = field(default_factory=dict)


def exchanges(events: Iterable[Event]) -> list[Exchange]:
    """Return all deliveries and acknowledgements. What was about to be sent counts as sent at that moment."""
    listed = list(events)
    connections: dict[int, _Connection] = {}
    found: list[Exchange] = []
    for moment, (event, data) in enumerate(_with_what_was_sent(listed), 1):
        if event.kind not in (Kind.SEND, Kind.RECEIVE):
            continue
        connection = connections.setdefault(event.inode, _Connection())
        stream = connection.sent if event.kind == Kind.SEND else connection.received
        stream += data
        for kind, body in _packets(stream):
            found += _exchange(connection, moment, kind, body, is_sent=event.kind == Kind.SEND)
    return found


def _with_what_was_sent(events: list[Event]) -> Iterator[tuple[Event, bytes]]:
    """Yield each event with its bytes; of what was about to be sent, those that were."""
    sizes: dict[int, int] = {}
    about: dict[int, int] = {}
    for index, event in enumerate(events):
        if event.kind == Kind.SEND:
            about[event.inode] = index
        elif event.kind == Kind.SENT:
            sizes[about.pop(event.inode)] = event.number
    for index, event in enumerate(events):
        yield event, event.data[: sizes.get(index, len(event.data))]


def _packets(stream: bytearray) -> Iterator[tuple[int, bytes]]:
    """Take the complete packets from the beginning of a stream: the first byte, and what follows the length."""
    while len(stream) >= 2:
        try:
            size, start = _varint(stream, 1)
        except IndexError:
            return
        if len(stream) < start + size:
            return
        yield stream[0], bytes(stream[start : start + size])
        del stream[: start + size]


def _exchange(connection: _Connection, moment: int, first: int, body: bytes, *, is_sent: bool) -> Iterator[Exchange]:
    kind = first >> 4
    if is_sent and kind == CONNECT:
        connection.level = body[2 + int.from_bytes(body[:2], "big")]
    elif is_sent and kind == PUBACK:
        ident = int.from_bytes(body[:2], "big")
        message = connection.in_flight.pop(ident, None)
        if message is not None and (len(body) == 2 or body[2] < FAILED):
            yield Exchange(moment, *message, acknowledged=True)
    elif not is_sent and kind == PUBLISH and first & 0b110:
        topic, ident, payload = _publish(body, connection.level)
        level, startup = topic.split("/")[:2]
        if level == "testbed":
            connection.in_flight[ident] = startup, json.loads(payload)["seq"]
            yield Exchange(moment, *connection.in_flight[ident], acknowledged=False)


def _publish(body: bytes, level: int) -> tuple[str, int, bytes]:
    end = 2 + int.from_bytes(body[:2], "big")
    at = end + 2
    if level == MQTT5:
        size, at = _varint(body, at)
        at += size
    return body[2:end].decode(), int.from_bytes(body[end : end + 2], "big"), body[at:]


def _varint(data: bytes | bytearray, at: int) -> tuple[int, int]:
    """Return a variable byte integer, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
        shift += 7
