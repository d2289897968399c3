"""Damaged rows of the state database: set aside and counted, while the others go on."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.config.models import DeadLetterSettings, JournalSettings
from gateway.model import UNROUTED, Code, Counts, Reason, Rejection
from gateway.state import damaged, dead_letters, ledger
from gateway.state.database import FILE_NAME, Database
from gateway.state.devices import DeviceRegistry
from gateway.state.journal import Block, Journal
from gateway.state.sequences import Sequence, Sequences
from tests.builders import database

TEXTS = [f"temperature,device=th-{number} celsius=21 1" for number in range(5)]
LINES = [text.encode() for text in TEXTS]
REASON = Reason(Code.WRONG_TYPE, "/celsius", "a number", '"warm"')


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[tuple[Database, Journal]]:
    """Open the state, as a gateway does at its start."""
    async with database(path) as state:
        journal = Journal(state, JournalSettings())
        await journal.open()
        await DeviceRegistry(state, {"acme": 100}).open()
        await state.read(Sequences().load)
        yield state, journal


async def prepare(path: Path, *, is_sorted: bool) -> None:
    """Leave a row of five readings of acme and two of birch, in the intake or sorted, and a dead letter."""
    rejection = Rejection("acme", "th-1", "testbed/acme/th-1", b'{"celsius": "warm"}', 1, (REASON,))
    async with database(path) as state:

        def work(connection: sqlite3.Connection) -> None:
            Journal.append(connection, {"acme": Block.of(TEXTS), "birch": Block.of(TEXTS[:2])})
            dead_letters.insert(connection, [rejection], DeadLetterSettings())
            ledger.add(connection, {"acme": Counts(received=1, rejected=1)})
            connection.execute("INSERT INTO devices VALUES ('acme', 'th-1', 1, 1, 1, 0, 0)")
            sequence = Sequence()
            sequence.observe(1)
            connection.execute("INSERT INTO sequences VALUES ('acme', 'th-1', 'climate', ?)", (sequence.kept(),))
            connection.execute("INSERT INTO series VALUES ('acme', 'temperature,device=th-1')")

        await state.write(work)
        if is_sorted:
            await Journal(state, JournalSettings()).sort()


def change(path: Path, statement: str) -> None:
    """Damage a row by a statement."""
    with sqlite3.connect(path) as connection:
        assert connection.execute(statement).rowcount == 1
    connection.close()


async def drained(state: Database, journal: Journal, startup: str) -> list[bytes]:
    """Take and settle all readings of a startup; return their lines."""
    lines: list[bytes] = []
    while entries := await journal.take(startup, 1000):
        new = [line for entry in entries for line in entry.lines]
        lines += new

        def work(connection: sqlite3.Connection) -> None:
            Journal.remove(connection, entries)  # it runs at once
            ledger.add(connection, {startup: Counts(stored=len(new))})  # noqa: B023

        await state.write(work)
        await journal.removed(startup, entries)
    return lines


INTAKE = {
    "no JSON": "UPDATE intake SET directory = '{'",
    "no text": "UPDATE intake SET directory = x'00ff'",
    "not UTF-8": "UPDATE intake SET directory = CAST(x'7bff' AS TEXT)",
    "another form": "UPDATE intake SET directory = '[1, 2]'",
    "another number": """UPDATE intake SET directory = '{"acme": 5}'""",
    "wrong sizes": "UPDATE intake SET data = substr(data, 2)",
    "no data": "UPDATE intake SET data = ''",
}


@pytest.mark.parametrize("statement", INTAKE.values(), ids=INTAKE)
async def test_a_damaged_row_of_the_intake_is_set_aside(tmp_path: Path, statement: str) -> None:
    """The gateway starts, its ledger balances, the row is kept, and later readings are sorted."""
    path = tmp_path / FILE_NAME
    await prepare(path, is_sorted=False)
    change(path, statement)
    async with opened(path) as (state, journal):
        assert await state.read(damaged.count) >= 1
        balance = await state.read(ledger.balance)
        assert all(counts.balanced for counts in balance.values())
        assert Counts.total(balance).refused >= 1
        await state.write(lambda connection: Journal.append(connection, {"acme": Block.of(TEXTS)}))
        journal.appended({"acme": Block.of(TEXTS)})
        await journal.sort()
        assert await drained(state, journal, "acme") == LINES
        assert journal.readings == 0


JOURNAL = {
    "no lines": ("UPDATE journal SET lines = x'' WHERE startup = 'acme'", []),
    "text": ("UPDATE journal SET lines = 'x' WHERE startup = 'acme'", []),
    "no count": ("UPDATE journal SET readings = 'many' WHERE startup = 'acme'", LINES),
    "negative": ("UPDATE journal SET readings = -5 WHERE startup = 'acme'", LINES),
    "no startup": ("UPDATE journal SET startup = CAST(x'ff' AS TEXT) WHERE startup = 'acme'", []),
    "too many": ("UPDATE journal SET readings = 7 WHERE startup = 'acme'", LINES),
    "too few": ("UPDATE journal SET readings = 2 WHERE startup = 'acme'", LINES),
}


@pytest.mark.parametrize(("statement", "left"), JOURNAL.values(), ids=JOURNAL)
async def test_a_damaged_row_of_the_journal(tmp_path: Path, statement: str, left: list[bytes]) -> None:
    """Its lines go to the store as far as they are there; others are stored; the ledger is balanced at the end."""
    path = tmp_path / FILE_NAME
    await prepare(path, is_sorted=True)
    change(path, statement)
    async with opened(path) as (state, journal):
        assert await drained(state, journal, "acme") == left
        assert await drained(state, journal, "birch") == LINES[:2]
        balance = await state.read(ledger.balance)
        assert balance["birch"] == Counts(received=2, accepted=2, stored=2)
        assert balance["acme"].journaled == 0
        assert await state.read(damaged.count) == 1
        assert sum(counts.stored + counts.refused for counts in balance.values()) >= 7
        assert journal.readings == 0


async def test_a_lost_separator_costs_no_other_reading(tmp_path: Path) -> None:
    """Of a row that lost a separator the store gets all other lines, and the missing one counts as refused."""
    path = tmp_path / FILE_NAME
    await prepare(path, is_sorted=True)
    with sqlite3.connect(path) as connection:
        merged = b"\0".join(LINES).replace(b"\0", b"\1", 1)
        connection.execute("UPDATE journal SET lines = ? WHERE startup = 'acme'", (merged,))
    connection.close()
    async with opened(path) as (state, journal):
        assert (await drained(state, journal, "acme"))[1:] == LINES[2:]
        counts = (await state.read(ledger.balance))["acme"]
        assert counts.balanced
        assert (counts.stored, counts.refused) == (4, 1)


LETTERS = {
    "no JSON": "UPDATE dead_letters SET reasons = '['",
    "another form": "UPDATE dead_letters SET reasons = '[1]'",
    "unknown code": """UPDATE dead_letters SET reasons = '[{"code": "x"}]'""",
    "records": "UPDATE dead_letters SET records = '[[1]]'",
    "no records": "UPDATE dead_letters SET records = 'x'",
    "not UTF-8": "UPDATE dead_letters SET device = CAST(x'ff' AS TEXT)",
}


@pytest.mark.parametrize("statement", LETTERS.values(), ids=LETTERS)
async def test_a_damaged_dead_letter_is_shown(tmp_path: Path, statement: str) -> None:
    """It is listed with its payload, and can be fetched to be replayed."""
    path = tmp_path / FILE_NAME
    await prepare(path, is_sorted=True)
    change(path, statement)
    async with opened(path) as (state, _):
        page = await state.read(dead_letters.page)
        assert [letter.rejection.payload for letter in page.letters] == [b'{"celsius": "warm"}']
        assert page.letters[0].as_json()["reasons"]
        assert await state.read(lambda connection: dead_letters.get(connection, page.letters[0].id))


OTHERS = {
    "dead letter": "UPDATE dead_letters SET arrived_ns = 'x'",
    "ledger": "UPDATE ledger SET rejected = 'x' WHERE startup = 'acme'",
    "totals": "UPDATE letter_totals SET bytes = x'00'",
    "device": "UPDATE devices SET last_ns = 'x'",
    "sequence": "UPDATE sequences SET kept = x'7b'",
    "sequence of another form": "UPDATE sequences SET kept = CAST('[]' AS BLOB)",
    "series": "UPDATE series SET key = x'00'",
    "series not UTF-8": "UPDATE series SET key = CAST(x'ff2c' AS TEXT)",
    "device not UTF-8": "UPDATE devices SET startup = CAST(x'ff' AS TEXT)",
}


@pytest.mark.parametrize("statement", OTHERS.values(), ids=OTHERS)
async def test_other_damaged_rows_do_not_keep_the_gateway_from_starting(tmp_path: Path, statement: str) -> None:
    """The gateway starts, shows its ledger and its dead letters, and stores what is in the journal."""
    path = tmp_path / FILE_NAME
    await prepare(path, is_sorted=True)
    change(path, statement)
    async with opened(path) as (state, journal):
        Counts.total(await state.read(ledger.balance))
        await state.read(dead_letters.page)
        await state.read(dead_letters.totals)
        assert await drained(state, journal, "acme") == LINES


async def test_what_is_set_aside_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound only the fact is kept."""
    monkeypatch.setattr(damaged, "MOST_BYTES", 10)
    async with database(tmp_path / FILE_NAME) as state:
        for _ in range(5):
            await state.write(lambda connection: damaged.set_aside(connection, "intake", "test", bytes(4)))
        sizes = await state.read(lambda connection: connection.execute("SELECT length(data) FROM damaged").fetchall())
        assert sizes == [(4,), (4,), (0,), (0,), (0,)]
        assert await state.read(damaged.count) == 5
        assert UNROUTED not in await state.read(ledger.balance)


async def test_a_dead_letter_set_aside_is_counted_no_more(tmp_path: Path) -> None:
    """Room is made for new dead letters after a damaged one was set aside: what is not there is not counted."""
    path = tmp_path / FILE_NAME
    await prepare(path, is_sorted=False)
    change(path, "UPDATE dead_letters SET device = x'00'")
    bounds = DeadLetterSettings(max_count=3)
    rejections = [
        Rejection("acme", "th-1", "testbed/acme/th-1", b"%d" % number, number, (REASON,)) for number in range(5)
    ]
    async with opened(path) as (state, _):
        await state.write(lambda connection: dead_letters.insert(connection, rejections, bounds))
        found = await state.read(dead_letters.totals)
        assert found["acme"].kept == 3


async def test_totals_that_are_too_high_end(tmp_path: Path) -> None:
    """A count of dead letters that are not there stops nothing: room is made as far as there are any."""
    path = tmp_path / FILE_NAME
    await prepare(path, is_sorted=False)
    change(path, "UPDATE letter_totals SET letters = 1000")
    rejection = Rejection("acme", "th-1", "", b"x", 1, (REASON,))
    async with opened(path) as (state, _):
        await state.write(
            lambda connection: dead_letters.insert(connection, [rejection], DeadLetterSettings(max_count=5))
        )
        page = await state.read(lambda connection: dead_letters.page(connection, "acme"))
        assert [letter.rejection.topic for letter in page.letters] == ["(empty)"]
