"""Dead letters: kept whole, within bounds, found again, forgotten once."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path

import pytest

from gateway.config.models import DeadLetterSettings
from gateway.model import UNROUTED, Code, Reason, Rejection
from gateway.state import dead_letters
from gateway.state.database import FILE_NAME, read_only
from gateway.state.dead_letters import (
    LISTED_PAYLOAD,
    NEWEST,
    PAGE,
    DeadLetter,
    Place,
    Totals,
    delete,
    get,
    insert,
    totals,
)
from gateway.state.letter_rows import OVERHEAD
from tests.builders import NOW, database, rejection

PLENTY = DeadLetterSettings()


def page(
    connection: sqlite3.Connection, startup: str | None = None, before: Place = NEWEST, limit: int = 100
) -> list[DeadLetter]:
    return dead_letters.page(connection, startup, before=before, limit=limit).letters


def size(*kept: Rejection) -> int:
    """Return the bytes that these take."""
    reasons = [json.dumps([reason.as_json() for reason in one.reasons], ensure_ascii=False) for one in kept]
    texts = [one.topic + one.device + "[]" + why for one, why in zip(kept, reasons, strict=True)]
    return sum(OVERHEAD + len(one.payload) + len(text.encode()) for one, text in zip(kept, texts, strict=True))


def at_most(size: int) -> DeadLetterSettings:
    return DeadLetterSettings.model_validate({"max_size": f"{size}B"})


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
    (listed,) = page(connection)
    dead_letter = get(connection, listed.id)
    assert dead_letter is not None
    assert (dead_letter.rejection, dead_letter.is_whole) == (kept, True)
    assert listed.rejection == kept.shortened(LISTED_PAYLOAD)


def test_as_json() -> None:
    """A dead letter's JSON holds all of it; bytes that are not UTF-8 are escaped."""
    dead_letter = DeadLetter(7, rejection(b"\xff{", records=(2,)), 2)
    assert dead_letter.as_json() == {
        "id": 7,
        "startup": "acme",
        "device": "th-1",
        "topic": "testbed/acme/th-1/climate",
        "arrived": "2026-11-18T11:06:40Z",
        "records": [2],
        "count": 1,
        "reasons": [
            {"code": "not_json", "where": "payload", "expected": "a JSON object", "got": "a brace", "hint": "close it"}
        ],
        "payload": "\\xff{",
        "bytes": 2,
        "kept": 2,
        "cut": False,
    }


def test_refused_line() -> None:
    """A point that the store refused has no topic: its payload is a line."""
    assert DeadLetter(1, rejection(b"climate v=1 1", topic=""), 13).is_line
    assert not DeadLetter(1, rejection(), 1).is_line


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
    assert totals(connection) == {"acme": Totals(kept=1, bytes=size(rejection(b"de")))}


def test_bound_of_count(connection: sqlite3.Connection) -> None:
    """Beyond the bound the oldest dead letters are dropped, and counted."""
    bounds = DeadLetterSettings(max_count=5)
    for i in range(12):
        insert(connection, [rejection(str(i).encode())], bounds)
    assert payloads(page(connection)) == [b"11", b"10", b"9", b"8", b"7"]
    assert totals(connection) == {
        "acme": Totals(kept=5, bytes=size(*map(rejection, (b"11", b"10", b"9", b"8", b"7"))), dropped=7)
    }


def test_bound_of_bytes(connection: sqlite3.Connection) -> None:
    """The bound of bytes holds as well: large dead letters push out as many as they need, and no more."""
    bounds = at_most(10 * size(rejection(b"x" * 10)))
    insert(connection, [rejection(b"x" * 10) for _ in range(10)], bounds)
    assert totals(connection)["acme"].kept == 10
    insert(connection, [rejection(b"y" * 200)], bounds)
    assert payloads(page(connection)) == [b"y" * 200, *[b"x" * 10] * 8]
    assert totals(connection)["acme"].dropped == 2


def test_topic_and_reasons_count(connection: sqlite3.Connection) -> None:
    """Ten thousand messages of one byte on the longest topics stay within the bound, and so does the file."""
    bounds = at_most(2 << 20)
    for _ in range(20):
        insert(connection, [rejection(b"x", topic="t" * 65_000) for _ in range(500)], bounds)
    held = totals(connection)["acme"]
    assert held.bytes <= bounds.max_size
    assert held.kept + held.dropped == 10_000
    assert held.kept > 25
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (bytes_each,) = connection.execute("PRAGMA page_size").fetchone()
    assert pages * bytes_each < 1.2 * bounds.max_size


@pytest.mark.parametrize("payload", [70_000, 10_000_000])
def test_one_large_message_pushes_out_few(connection: sqlite3.Connection, payload: int) -> None:
    """A payload that is larger than all together may be is kept cut; the others stay. It is no longer whole."""
    bounds = at_most(256 << 10)
    insert(connection, [rejection(b"x") for _ in range(100)], bounds)
    insert(connection, [rejection(b"z" * payload)], bounds)
    newest, *others = page(connection)
    assert len(others) == 99
    assert (newest.rejection.size, newest.is_whole) == (payload, False)
    assert 0 < newest.kept < bounds.max_size // 4
    assert totals(connection)["acme"].dropped == 0
    found = get(connection, newest.id)
    assert found is not None
    assert found.rejection.payload == b"z" * newest.kept
    assert found.as_json()["bytes"] == payload


def test_message_that_cannot_be_kept_pushes_out_none(connection: sqlite3.Connection) -> None:
    """Where even its topic is too large to be kept, it is counted as dropped, and the others stay."""
    bounds = at_most(100_000)
    insert(connection, [rejection(b"x")], bounds)
    insert(connection, [rejection(b"z", topic="t" * 65_000)], bounds)
    assert payloads(page(connection)) == [b"x"]
    assert totals(connection)["acme"].dropped == 1


def test_positions_of_records_take_little(connection: sqlite3.Connection) -> None:
    """The positions of records that follow one another are two numbers on disk; a list shows the first of them."""
    records = (1, *range(10, 30_000), 40_000)
    kept = rejection(b"[]", records=records)
    insert(connection, [kept], PLENTY)
    assert totals(connection)["acme"].bytes < 1000
    (listed,) = page(connection)
    assert (listed.rejection.records, listed.rejection.count) == (records[:1000], len(records))
    found = get(connection, listed.id)
    assert found is not None
    assert found.rejection == kept


def test_pages_are_bounded_in_bytes(connection: sqlite3.Connection) -> None:
    """A page ends early where its dead letters are large, and the next begins there."""
    insert(connection, [rejection(b"x" * 65_000, topic="t" * 65_000) for _ in range(100)], PLENTY)
    seen: list[DeadLetter] = []
    place = NEWEST
    while (found := dead_letters.page(connection, before=place, limit=1000)).letters:
        assert sum(len(one.rejection.payload) + len(one.rejection.topic) for one in found.letters) < 1.1 * PAGE
        assert all(one.as_json()["cut"] and one.kept == 65_000 for one in found.letters)
        seen += found.letters
        place = found.letters[-1].place
    assert len(seen) == 100
    assert found.is_last


OLD = """
DROP TABLE dead_letters;
CREATE TABLE dead_letters (id INTEGER PRIMARY KEY AUTOINCREMENT, startup TEXT NOT NULL, device TEXT NOT NULL,
    topic TEXT NOT NULL, arrived_ns INTEGER NOT NULL, records TEXT NOT NULL, reasons TEXT NOT NULL,
    payload BLOB NOT NULL);
INSERT INTO dead_letters VALUES (7, 'acme', 'th-1', 'testbed/acme/th-1/climate', 5, '[0, 2]',
    '[{"code": "not_json", "where": "payload", "expected": "a", "got": "b"}]', x'7b');
INSERT INTO letter_totals VALUES ('acme', 1, 1, 3);
"""


async def test_file_of_an_early_version_is_opened(tmp_path: Path) -> None:
    """A file that counted only payloads keeps its dead letters; from now on everything in them counts."""
    async with database(tmp_path / FILE_NAME) as state:
        for statement in OLD.split(";"):
            await state.write(lambda connection, statement=statement: connection.execute(statement))  # type: ignore[misc]
    for _ in range(2):
        async with database(tmp_path / FILE_NAME) as state:
            (found,) = (await state.read(dead_letters.page)).letters
            held = (await state.read(totals))["acme"]
    assert (found.rejection.records, found.rejection.payload, found.kept) == ((0, 2), b"{", 1)
    assert (held.kept, held.dropped) == (1, 3)
    assert held.bytes > OVERHEAD
    async with database(tmp_path / FILE_NAME) as state:
        assert await state.write(lambda connection: delete(connection, found))
        assert await state.read(totals) == {"acme": Totals(dropped=3)}


def test_many_go_at_once(connection: sqlite3.Connection) -> None:
    """A tenth of many dead letters is dropped at once, so that it is seldom done; never more for one too many."""
    bounds = DeadLetterSettings(max_count=100)
    insert(connection, [rejection() for _ in range(100)], bounds)
    insert(connection, [rejection()], bounds)
    assert totals(connection)["acme"] == Totals(kept=91, bytes=91 * size(rejection()), dropped=10)


def test_bounds_are_of_each_startup(connection: sqlite3.Connection) -> None:
    """A startup that sends garbage pushes out only its own dead letters."""
    bounds = DeadLetterSettings(max_count=2)
    insert(connection, [rejection(b"mine", "beta"), rejection(b"nobody's", UNROUTED)], bounds)
    for i in range(9):  # one after the other, so that each has to make room
        insert(connection, [rejection(str(i).encode())], bounds)
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
    found = await asyncio.to_thread(read_only, tmp_path / FILE_NAME, dead_letters.page)
    assert payloads(found.letters) == [b"seen"]
