"""Dead letters: kept whole, within bounds, found again, forgotten once."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.config.models import DeadLetterSettings
from gateway.model import UNROUTED, Code, Reason, Rejection
from gateway.state import dead_letters
from gateway.state.database import FILE_NAME, read_only
from gateway.state.dead_letters import DeadLetter, Totals, delete, get, insert, page, totals
from tests.builders import NOW, database, rejection

PLENTY = DeadLetterSettings()


@pytest.fixture
async def connection(tmp_path: Path) -> AsyncIterator[sqlite3.Connection]:
    """A connection to the state that the gateway itself made."""
    async with database(tmp_path / FILE_NAME):
        pass
    made = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
    yield made
    made.close()


def payloads(found: list[DeadLetter]) -> list[bytes]:
    return [one.rejection.payload for one in found]


@pytest.mark.parametrize("payload", [b"", b"{", b"\xff\x00\xfe", bytes(range(256)), "é\u2028".encode(), b"\0" * 5000])
def test_raw_bytes_are_kept(connection: sqlite3.Connection, payload: bytes) -> None:
    """A rejection comes back with every byte, reason and record that it had."""
    kept = Rejection(
        "acme",
        "Gerät 1",
        "testbed/acme/Gerät 1/x",
        payload,
        NOW,
        (Reason(Code.BAD_DEVICE, "topic", "a name", "'é'"), Reason(Code.EMPTY, "/3", "a", "b", "hint")),
        (3, 17),
    )
    insert(connection, [kept], PLENTY)
    (dead_letter,) = page(connection)
    assert dead_letter.rejection == kept
    assert get(connection, dead_letter.id) == dead_letter


def test_as_json() -> None:
    """A dead letter's JSON holds all of it; bytes that are not UTF-8 are escaped."""
    dead_letter = DeadLetter(7, rejection(b"\xff{", records=(2,)))
    assert dead_letter.as_json() == {
        "id": 7,
        "startup": "acme",
        "device": "th-1",
        "topic": "testbed/acme/th-1/climate",
        "arrived": "2026-11-18T11:06:40Z",
        "records": [2],
        "reasons": [
            {"code": "not_json", "where": "payload", "expected": "a JSON object", "got": "a brace", "hint": "close it"}
        ],
        "payload": "\\xff{",
        "bytes": 2,
    }


def test_refused_line() -> None:
    """A point that the store refused has no topic: its payload is a line."""
    assert DeadLetter(1, rejection(b"climate v=1 1", topic="")).is_line
    assert not DeadLetter(1, rejection()).is_line


def test_pages(connection: sqlite3.Connection) -> None:
    """Pages go from the newest to the oldest, of all startups or one, each from the end of the last."""
    insert(connection, [rejection(str(i).encode(), "acme" if i % 2 else "beta") for i in range(7)], PLENTY)
    first = page(connection, limit=3)
    assert payloads(first) == [b"6", b"5", b"4"]
    second = page(connection, before=first[-1].place, limit=10)
    assert payloads(second) == [b"3", b"2", b"1", b"0"]
    assert page(connection, before=second[-1].place) == []
    assert payloads(page(connection, "acme")) == [b"5", b"3", b"1"]
    assert payloads(page(connection, "acme", before=first[-1].place)) == [b"3", b"1"]
    assert page(connection, "nobody") == []


def test_deleted_once(connection: sqlite3.Connection) -> None:
    """A dead letter can be deleted once: a second try returns False, and the totals are right."""
    insert(connection, [rejection(b"abc"), rejection(b"de")], PLENTY)
    old, new = reversed(page(connection))
    assert delete(connection, old)
    assert not delete(connection, old)
    assert get(connection, old.id) is None
    assert page(connection) == [new]
    assert totals(connection) == {"acme": Totals(kept=1, bytes=2)}


def test_bound_of_count(connection: sqlite3.Connection) -> None:
    """Beyond the bound the oldest dead letters are dropped, and counted."""
    bounds = DeadLetterSettings(max_count=5)
    for i in range(12):
        insert(connection, [rejection(str(i).encode())], bounds)
    assert payloads(page(connection)) == [b"11", b"10", b"9", b"8", b"7"]
    assert totals(connection) == {"acme": Totals(kept=5, bytes=7, dropped=7)}


def test_bound_of_bytes(connection: sqlite3.Connection) -> None:
    """The bound of bytes holds as well: large dead letters push out as many as they need."""
    bounds = DeadLetterSettings.model_validate({"max_size": "100B"})
    insert(connection, [rejection(b"x" * 10) for _ in range(10)], bounds)
    assert totals(connection)["acme"].kept == 10
    insert(connection, [rejection(b"y" * 75)], bounds)
    assert payloads(page(connection)) == [b"y" * 75, b"x" * 10, b"x" * 10]
    assert totals(connection) == {"acme": Totals(kept=3, bytes=95, dropped=8)}
    insert(connection, [rejection(b"z" * 101)], bounds)
    assert totals(connection) == {"acme": Totals(kept=0, bytes=0, dropped=12)}


def test_many_go_at_once(connection: sqlite3.Connection) -> None:
    """A tenth of many dead letters is dropped at once, so that it is seldom done; never more for one too many."""
    bounds = DeadLetterSettings(max_count=100)
    insert(connection, [rejection() for _ in range(100)], bounds)
    insert(connection, [rejection()], bounds)
    assert totals(connection)["acme"] == Totals(kept=91, bytes=91, dropped=10)


def test_bounds_are_of_each_startup(connection: sqlite3.Connection) -> None:
    """A startup that sends garbage pushes out only its own dead letters."""
    bounds = DeadLetterSettings(max_count=2)
    insert(connection, [rejection(b"mine", "beta"), rejection(b"nobody's", UNROUTED)], bounds)
    insert(connection, [rejection(str(i).encode()) for i in range(9)], bounds)
    assert payloads(page(connection, "beta")) == [b"mine"]
    assert payloads(page(connection, UNROUTED)) == [b"nobody's"]
    assert payloads(page(connection, "acme")) == [b"8", b"7"]


def test_ids_are_never_used_again(connection: sqlite3.Connection) -> None:
    """The id of a deleted dead letter is not used again: nobody replays another by mistake."""
    insert(connection, [rejection()], PLENTY)
    (dead_letter,) = page(connection)
    delete(connection, dead_letter)
    insert(connection, [rejection()], PLENTY)
    assert page(connection)[0].id > dead_letter.id


async def test_seen_from_outside(tmp_path: Path) -> None:
    """The command line finds the gateway's dead letters in its file."""
    async with database(tmp_path / FILE_NAME) as state:
        await state.write(lambda connection: dead_letters.insert(connection, [rejection(b"seen")], PLENTY))
    assert payloads(await asyncio.to_thread(read_only, tmp_path / FILE_NAME, page)) == [b"seen"]
