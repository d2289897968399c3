"""Bytes of the messages on their way to the broker: feeds and feedback. Pure.

The startups share them: what waits for one may take no more than remains free (see `gateway.shares`).
"""

from __future__ import annotations

from gateway.shares import SharedBytes

OUTGOING = 16 << 20
AROUND = 300
"""Bytes of a message in memory without its topic and payload, about."""


class Outgoing:
    """`take` room for a message, `give_back` when it is the broker's, or dropped."""

    def __init__(self) -> None:
        self._bytes = SharedBytes(OUTGOING)

    def take(self, topic: str, payload: int) -> bool:
        """Return whether there is room for a message with a payload of so many bytes."""
        return self._bytes.take(startup_of(topic), AROUND + len(topic) + payload)

    def give_back(self, topic: str, payload: int) -> None:
        """Give back the room of a message."""
        self._bytes.give_back(startup_of(topic), AROUND + len(topic) + payload)


def startup_of(topic: str) -> str:
    """Return the startup in `feeds/SLUG/…` or `feedback/SLUG/…`."""
    return topic.partition("/")[2].partition("/")[0]
