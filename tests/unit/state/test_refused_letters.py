"""Dead letters of readings that the store refused: apart from the others, whole, never dropped."""

from __future__ import annotations

import sqlite3

import pytest

from gateway.config.models import DeadLetterSettings
from gateway.errors import DeadLettersFull
from gateway.state import dead_letters, refused_letters
from gateway.state.dead_letters import Totals
from gateway.state.letter_rows import OVERHEAD
from tests.builders import rejection

SMALL = DeadLetterSettings.model_validate({"max_size": "4KiB", "max_count": 2})


def refuse(connection: sqlite3.Connection, *lines: bytes) -> None:
    refused = [rejection(line, topic="") for line in lines]
    refused_letters.insert(connection, "acme", refused, SMALL)


def test_none_is_dropped_or_cut(connection: sqlite3.Connection) -> None:
    """A long line is kept whole, more are kept than rejections may be, and those beyond the bytes are not taken."""
    refuse(connection, b"x" * 2000)
    refuse(connection, b"a", b"b", b"c")
    with pytest.raises(DeadLettersFull, match=r"dead_letters\.max_size"):
        refuse(connection, b"y" * 2000)
    kept = dead_letters.page(connection).letters
    assert sorted(one.kept for one in kept) == [1, 1, 1, 2000]
    assert all(one.is_line and one.is_whole for one in kept)


def test_first_ones_always_find_room(connection: sqlite3.Connection) -> None:
    """One batch is kept however large it is, or no bound would ever let it go."""
    refuse(connection, b"x" * 10_000)
    with pytest.raises(DeadLettersFull):
        refuse(connection, b"y")


def test_replayed_one_makes_room(connection: sqlite3.Connection) -> None:
    """One that is deleted is no longer counted."""
    refuse(connection, b"x" * 10_000)
    (kept,) = dead_letters.page(connection).letters
    assert dead_letters.delete(connection, kept)
    assert not dead_letters.delete(connection, kept)
    assert dead_letters.totals(connection) == {"acme": Totals()}
    refuse(connection, b"y" * 10_000)


def test_file_without_totals_is_counted(connection: sqlite3.Connection) -> None:
    """The refused readings of a file from before are counted apart once; in all there are as many as there were."""
    dead_letters.insert(connection, [rejection(b"mine")], SMALL)
    refuse(connection, b"a", b"b")
    before = dead_letters.totals(connection)["acme"]
    refused_bytes = connection.execute("SELECT sum(size) FROM dead_letters WHERE topic = ''").fetchone()[0]
    connection.execute("DROP TABLE refused_totals")
    connection.execute("UPDATE letter_totals SET letters = letters + 2, bytes = bytes + ?", (refused_bytes,))
    for _ in range(2):
        refused_letters.prepare(connection)
        assert dead_letters.totals(connection)["acme"] == before == Totals(3, before.bytes, 0)
    assert before.bytes > 3 * OVERHEAD
