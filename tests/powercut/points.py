"""Where to cut: anywhere, and more often where something may go wrong."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from tests.powercut.recording import Event, Kind
from tests.powercut.wire import Exchange

NAMES = (Kind.OPEN, Kind.RENAME, Kind.UNLINK, Kind.MKDIR, Kind.TRUNCATE)
UNSYNCED = (*NAMES, Kind.WRITE, Kind.SYNC_BEGIN)
"""Events after which something is not durable."""


def chosen(events: Sequence[Event], exchanges: Sequence[Exchange], cuts: int, seed: str) -> list[int]:
    """Return moments to cut at, each after so many events: half of them while something is not durable,
    the others just after an acknowledgement, around changes of names, at the beginning, while everything is new, and
    anywhere."""
    chance = Random(seed)
    anywhere = range(len(events) + 1)
    acknowledged = [one.moment for one in exchanges if one.acknowledged] or anywhere
    names = [moment for moment, event in enumerate(events, 1) if event.kind in NAMES] or anywhere
    unsynced = [moment for moment, event in enumerate(events, 1) if event.kind in UNSYNCED] or anywhere
    beginning = range(min(len(events), acknowledged[0] + 50) + 1)
    found = []
    for _ in range(cuts):
        among = chance.choices((unsynced, acknowledged, names, beginning, anywhere), (5, 2, 1, 1, 1))[0]
        found.append(min(len(events), chance.choice(among) + (chance.randrange(4) if among is names else 0)))
    return found
