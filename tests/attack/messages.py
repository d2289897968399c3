"""Blocks of MQTT packets that a hose sends again and again. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from bench import packets
from bench.packets import Version

VERSION: Version = 4
BLOCK_BYTES = 16 << 20
DISTINCT = 20_000


@dataclass(frozen=True, slots=True)
class Block:
    """`units` messages of one length, one after the other."""

    data: bytes
    units: int


def block(
    topic: str | Callable[[int], str],
    payload: bytes | Callable[[int], bytes],
    *,
    qos: int = 1,
    retained: bool = False,
    most: int | None = None,
) -> Block:
    """Return PUBLISH packets. Where topic or payload depend on the number there are many, else a few to be repeated."""
    distinct = callable(topic) or callable(payload)

    def one(number: int) -> bytes:
        name = topic(number) if callable(topic) else topic
        body = payload(number) if callable(payload) else payload
        return packets.publish(name, body, qos, 1 + number % 60_000, VERSION, retained=retained)

    fitting = max(1, (BLOCK_BYTES * (8 if distinct else 1)) // len(one(0)))
    wanted = min(most or DISTINCT, DISTINCT) if distinct else 100
    return joined(one(number) for number in range(min(fitting, wanted)))


def joined(parts: Iterable[bytes]) -> Block:
    """Return a block of packets, which must have one length.

    Raises:
        ValueError: they have not.
    """
    several = list(parts)
    if len({len(one) for one in several}) != 1:
        raise ValueError("packets of one block have one length: pad their numbers")
    return Block(b"".join(several), len(several))


def connect(user: str, password: str) -> bytes:
    """Return CONNECT with an account; the client id is the account's name, as the broker has it."""
    return packets.connect(user, VERSION, account=(user, password))


def subscriptions(topic_filter: str) -> Block:
    """Return SUBSCRIBE and UNSUBSCRIBE in turns, as one unit."""
    both = packets.subscribe(topic_filter, 1, VERSION) + packets.unsubscribe(topic_filter, VERSION)
    return Block(both * 100, 100)
