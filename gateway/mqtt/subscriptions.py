"""The filters of a session: wanted, unwanted, and those of each SUBSCRIBE that is not answered yet. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, repeat

SHARED = "$share/"
SUBSCRIBE_AGAIN_AFTER = 3.0
"""Seconds after an UNSUBSCRIBE after which `same_as` are subscribed to again, besides at once: RMQTT 0.24 answers both
before it removes the one, and may remove it after it has added the other."""


class Subscriptions:
    """`unwanted` are filters that the session at the broker may have from before: each new connection drops them."""

    def __init__(self, wanted: Sequence[str], unwanted: Sequence[str]) -> None:
        self.wanted = tuple(wanted)
        self.unwanted = list(unwanted)
        self.is_known = False
        """Whether the broker has the session from before, so that it may have filters."""
        self._asked: dict[int, tuple[str, ...]] = {}

    def change(self, wanted: Sequence[str]) -> tuple[list[str], list[str]]:
        """Want these filters and no others. Return those that are new, and those that a live connection must drop."""
        before, self.wanted = self.wanted, tuple(wanted)
        self.unwanted = [name for name in {*self.unwanted, *before} if name not in self.wanted]
        new = [name for name in self.wanted if name not in before]
        gone = [name for name in before if name not in self.wanted]
        return new, gone

    @property
    def stale(self) -> list[str]:
        """The filters that a connection has to drop."""
        return self.unwanted if self.is_known else []

    def same_as(self, gone: Iterable[str]) -> list[str]:
        """Return the wanted filters that are those of `gone` but for `$share/GROUP/`. They have to be subscribed to
        once more, since RMQTT 0.24 takes both for the same in an UNSUBSCRIBE."""
        topics = {without_group(name) for name in gone}
        return [name for name in self.wanted if without_group(name) in topics]

    def still_wanted(self, filters: Iterable[str]) -> list[str]:
        """Return those of the filters that are wanted now."""
        return [name for name in filters if name in self.wanted]

    def begin(self) -> None:
        """Forget the requests of an earlier connection."""
        self._asked.clear()

    def asked(self, packet_id: int, filters: Sequence[str]) -> None:
        """Remember the filters of a SUBSCRIBE, whose answer names none."""
        self._asked[packet_id] = tuple(filters)

    def rejected(self, packet_id: int, failures: Iterable[bool]) -> list[str]:
        """Return the filters that a SUBACK rejects; `failures` should have one value for each filter of the SUBSCRIBE.
        What it says nothing about is not granted."""
        asked = self._asked.pop(packet_id, ())
        return [name for name, is_failure in zip(asked, chain(failures, repeat(True)), strict=False) if is_failure]


def without_group(name: str) -> str:
    """Return a filter without `$share/GROUP/` (MQTT 5.0, section 4.8.2)."""
    return name.split("/", 2)[2] if name.startswith(SHARED) else name
