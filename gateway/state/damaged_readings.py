"""Damaged rows of the journal and its intake: whatever can be recognised in them is kept. See `gateway.state.damaged`.

- A row of the intake whose directory does not fit its data is set aside: nothing says whose the lines are.
- A row of the journal with another number of lines than it says has lost a separator, or gained one. Its lines go to
  the store all the same, which refuses those that are none: one damaged byte costs a reading or two, not the row.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from pydantic_core import from_json

from gateway.model import UNROUTED, Counts
from gateway.state import damaged

Part = tuple[str, int, bytes]
"""A startup's slug, number of readings, and block."""


def blocks(directory: object, data: object) -> list[Part] | None:
    """Return the blocks of a row of the intake; None if the row is damaged."""
    sizes = _sizes(directory)
    if sizes is None or not isinstance(data, bytes) or sum(size for _, size in sizes.values()) != len(data):
        return None
    found: list[Part] = []
    at = 0
    for startup, (readings, size) in sizes.items():
        found.append((startup, readings, data[at : at + size]))
        at += size
    return found


def set_intake_aside(
    connection: sqlite3.Connection, directory: object, data: object, lost: dict[str, tuple[int, int]]
) -> None:
    """Set a damaged row aside; add to `lost` the readings and bytes of each startup in it, as far as it says them."""
    sizes = _sizes(directory)
    if sizes is None:
        lines = data.count(b"\0") + 1 if isinstance(data, bytes) else 1  # at least: each startup has one more
        sizes = {UNROUTED: (lines, 0)}
    kept = data
    for startup, (readings, size) in sizes.items():
        counts = Counts(received=readings, accepted=readings, refused=readings)
        damaged.set_aside(connection, "intake", f"directory {directory!r:.200} does not fit", kept, startup, counts)
        kept = b""
        if startup != UNROUTED:
            before = lost.get(startup, (0, 0))
            lost[startup] = (before[0] + readings, before[1] + size)


def is_sound(readings: object, block: object) -> bool:
    """Return whether a row of the journal has as many lines as it says."""
    return isinstance(block, bytes) and block.count(b"\0") + 1 == readings


def mend(connection: sqlite3.Connection, startup: str, idents: Sequence[int]) -> int:
    """Correct the number of readings of damaged rows of the journal, or set them aside; return how many readings are
    there more than before."""
    more = 0
    for ident in idents:
        said, lines = connection.execute("SELECT readings, lines FROM journal WHERE id = ?", (ident,)).fetchone()
        more += _mend(connection, startup, ident, said, lines)
    return more


def _mend(connection: sqlite3.Connection, startup: str, ident: int, said: object, lines: object) -> int:
    if not isinstance(lines, bytes) or not lines:
        count = said if isinstance(said, int) else 1
        damaged.set_aside(connection, "journal", "its lines are missing", lines, startup, Counts(refused=count))
        connection.execute("DELETE FROM journal WHERE id = ?", (ident,))
        return -count
    count = lines.count(b"\0") + 1
    more = count - said if isinstance(said, int) else 0
    counts = Counts(received=more, accepted=more) if more > 0 else Counts(refused=-more)
    damaged.set_aside(connection, "journal", f"{said!r:.100} readings are {count} lines", b"", startup, counts)
    connection.execute("UPDATE journal SET readings = ? WHERE id = ?", (count, ident))
    return more


def _sizes(directory: object) -> dict[str, tuple[int, int]] | None:
    """Return the readings and bytes of each startup that a directory names; None if it is not of that form."""
    try:
        found: Any = from_json(directory) if isinstance(directory, str) else None
    except ValueError:
        return None
    if not isinstance(found, dict) or not found:
        return None
    sizes: dict[str, tuple[int, int]] = {}
    for startup, pair in found.items():
        match pair:
            case [int(readings), int(size)] if readings > 0 and size >= 0 and _is_slug(startup):
                sizes[startup] = (readings, size)
            case _:
                return None
    return sizes


def _is_slug(text: str) -> bool:
    return text.isascii() and text.replace("-", "").isalnum() and text.islower()
