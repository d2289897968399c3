"""The journal: order, bounds, waking, and restarts."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.config.models import JournalSettings
from gateway.model import Counts
from gateway.state import ledger
from gateway.state.database import FILE_NAME, Database
from gateway.state.journal import SEPARATOR, TAKE_AT_ONCE, Block, Entry, Journal
from tests.builders import database
from tests.servers import WITHIN, eventually, keep_waiting


def lines(*texts: str) -> list[bytes]:
    return [text.encode() for text in texts]


async def arrive(journal: Journal, state: Database, **several: list[bytes]) -> None:
    """Commit these lines, without sorting them."""
    blocks = {startup: Block(len(lines), SEPARATOR.join(lines)) for startup, lines in several.items()}
    await state.write(lambda connection: journal.append(connection, blocks))
    journal.appended(blocks)


async def append(journal: Journal, state: Database, **several: list[bytes]) -> None:
    """Commit these lines and sort them."""
    await arrive(journal, state, **several)
    await journal.sort()


async def remove(journal: Journal, state: Database, entries: list[Entry], startup: str = "acme") -> None:
    await state.write(lambda connection: journal.remove(connection, entries))
    await journal.removed(startup, entries)


async def opened(state: Database, **bounds: object) -> Journal:
    journal = Journal(state, JournalSettings.model_validate(bounds))
    await journal.open()
    return journal


async def test_taken_in_order_until_removed(tmp_path: Path) -> None:
    """Appended readings are taken, the oldest first, on every call, until they are removed."""
    async with database(tmp_path / FILE_NAME) as state:
        journal = await opened(state)
        await append(journal, state, acme=lines("a 1", "b\n2"), beta=lines("other"))
        await append(journal, state, acme=lines("c"))
        first = await journal.take("acme", 100)
        assert [entry.lines for entry in first] == [lines("a 1", "b\n2"), lines("c")]
        assert await journal.take("acme", 100) == first
        await remove(journal, state, first[:1])
        assert await journal.take("acme", 100) == first[1:]
        await remove(journal, state, first[1:])
        assert await journal.take("acme", 100) == []
        assert [entry.lines for entry in await journal.take("beta", 100)] == [lines("other")]


@pytest.mark.parametrize(("limit", "entries"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (100, 3)])
async def test_take_up_to_a_limit(tmp_path: Path, limit: int, entries: int) -> None:
    """`take` stops with the entry that reaches the limit of readings; an entry is never split."""
    async with database(tmp_path / FILE_NAME) as state:
        journal = await opened(state)
        for _ in range(3):
            await append(journal, state, acme=lines("a", "b"))
        assert len(await journal.take("acme", limit)) == entries


async def test_several_commits_are_sorted_together(tmp_path: Path) -> None:
    """Several commits become one entry of each startup, in the order of arrival; before, there is nothing to take."""
    async with database(tmp_path / FILE_NAME) as state:
        journal = await opened(state)
        await arrive(journal, state, acme=lines("a", "b"), beta=lines("x"))
        await arrive(journal, state, beta=lines("y\n", "z"))
        await arrive(journal, state, acme=lines("c"))
        assert await journal.take("acme", 10) == []
        await asyncio.wait_for(journal.arrived(), WITHIN)
        await journal.sort()
        assert [entry.lines for entry in await journal.take("acme", 10)] == [lines("a", "b", "c")]
        assert [entry.lines for entry in await journal.take("beta", 10)] == [lines("x", "y\n", "z")]
        assert (journal.readings, journal.bytes) == (6, len(b"a\0b\0c") + len(b"x\0y\n\0z"))


async def test_an_unsorted_intake_is_sorted_after_a_restart(tmp_path: Path) -> None:
    """The intake of a killed gateway reaches the lanes of the next one, and is counted."""
    async with database(tmp_path / FILE_NAME) as state:
        await arrive(await opened(state), state, acme=lines("a"))
    async with database(tmp_path / FILE_NAME) as state:
        journal = await opened(state)
        assert [entry.lines for entry in await journal.take("acme", 10)] == [lines("a")]
        assert (await state.read(ledger.balance))["acme"] == Counts(received=1, accepted=1, journaled=1)


async def test_the_intake_is_in_the_ledger(tmp_path: Path) -> None:
    """Unsorted readings on disk are received, accepted and journaled; sorting changes no count."""
    async with database(tmp_path / FILE_NAME) as state:
        journal = await opened(state)
        await arrive(journal, state, beta=lines("x"), acme=lines("a", "b"))
        await arrive(journal, state, acme=lines("c"))
        before = await state.read(ledger.balance)
        assert before == {
            "acme": Counts(received=3, accepted=3, journaled=3),
            "beta": Counts(received=1, accepted=1, journaled=1),
        }
        await journal.sort()
        assert await state.read(ledger.balance) == before


async def test_a_large_intake_is_sorted_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of any amount, one transaction holds only a part in memory; all of it is sorted, in order."""
    monkeypatch.setattr("gateway.state.journal.SORT_AT_ONCE", 4)
    async with database(tmp_path / FILE_NAME) as state:
        journal = await opened(state)
        for text in ("aa", "bb", "cc", "dd", "ee"):
            await arrive(journal, state, acme=lines(text))
        await journal.sort()
        taken = await journal.take("acme", 10)
        assert [entry.lines for entry in taken] == [lines("aa", "bb"), lines("cc", "dd"), lines("ee")]
        await remove(journal, state, taken)
        assert (journal.readings, journal.bytes) == (0, 0)


async def test_counts(tmp_path: Path) -> None:
    """The journal knows its readings and bytes, and finds the same after a restart."""
    async with database(tmp_path / FILE_NAME) as state:
        journal = await opened(state)
        await append(journal, state, acme=lines("abc", "de"), beta=lines("f"))
        assert (journal.readings, journal.bytes) == (3, 7)
        again = await opened(state)
        assert (again.readings, again.bytes) == (3, 7)
        assert sorted(again.startups()) == ["acme", "beta"]
        await remove(journal, state, await journal.take("acme", 10))
        assert (journal.readings, journal.bytes) == (1, 1)


async def test_reopen(tmp_path: Path) -> None:
    """After a restart all entries that were not removed are there, in order, and new ones follow them."""
    async with database(tmp_path / FILE_NAME) as state:
        journal = await opened(state)
        await append(journal, state, acme=lines("a"))
        await append(journal, state, acme=lines("b"))
        await remove(journal, state, (await journal.take("acme", 10)))
        await append(journal, state, acme=lines("c"))
    async with database(tmp_path / FILE_NAME) as state:
        journal = await opened(state)
        await asyncio.wait_for(journal.filled("acme"), WITHIN)
        await append(journal, state, acme=lines("d"))
        assert [entry.lines for entry in await journal.take("acme", 10)] == [lines("c"), lines("d")]


@pytest.mark.parametrize("bounds", [{"max_readings": 4}, {"max_size": "6B"}])
async def test_full_until_there_is_room(tmp_path: Path, bounds: dict[str, object]) -> None:
    """At its bounds the journal is full: `room` waits until enough is removed."""
    async with database(tmp_path / FILE_NAME) as state:
        journal = await opened(state, **bounds)
        await append(journal, state, acme=lines("a", "b"))
        await asyncio.wait_for(journal.room(), WITHIN)
        await append(journal, state, acme=lines("c", "d"), beta=lines("e"))
        assert journal.is_full
        waiting = [asyncio.create_task(journal.room()) for _ in range(3)]
        acme, beta = await journal.take("acme", 10), await journal.take("beta", 10)
        await remove(journal, state, beta)
        await keep_waiting(*waiting)
        assert journal.is_full
        await remove(journal, state, acme[:1])
        await asyncio.wait_for(asyncio.gather(*waiting), WITHIN)
        assert not journal.is_full


async def test_full_journal_is_full_after_a_restart(tmp_path: Path) -> None:
    """A journal that was full stays so: a restart drops nothing to make room."""
    async with database(tmp_path / FILE_NAME) as state:
        await append(await opened(state), state, acme=lines("a", "b"))
        journal = await opened(state, max_readings=2)
        assert journal.is_full
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(journal.room(), 0.01)


async def test_waiting_for_something_to_drain(tmp_path: Path) -> None:
    """A lane waits until its own startup has readings, then goes on at once; later ones wake it again."""
    async with database(tmp_path / FILE_NAME) as state:
        journal = await opened(state)
        lane = asyncio.create_task(journal.filled("acme"))
        await append(journal, state, beta=lines("x"))
        await keep_waiting(lane)
        await append(journal, state, acme=lines("a"))
        await asyncio.wait_for(lane, WITHIN)
        entries = await journal.take("acme", 10)
        await asyncio.wait_for(journal.filled("acme"), WITHIN)  # it still holds what was taken
        await remove(journal, state, entries)
        assert await journal.take("acme", 10) == []
        lane = asyncio.create_task(journal.filled("acme"))
        await keep_waiting(lane)
        await append(journal, state, acme=lines("b"))
        await asyncio.wait_for(lane, WITHIN)


async def test_wake_all(tmp_path: Path) -> None:
    """When the gateway stops, every lane goes on, with nothing to take."""
    async with database(tmp_path / FILE_NAME) as state:
        journal = await opened(state)
        lanes = [asyncio.create_task(journal.filled(startup)) for startup in ("acme", "beta")]
        await eventually(lambda: sorted(journal.startups()) == ["acme", "beta"], says="both lanes wait")
        journal.wake_all()
        await asyncio.wait_for(asyncio.gather(*lanes), WITHIN)
        assert await journal.take("acme", 10) == []


async def test_startup_fills_its_share_only(tmp_path: Path) -> None:
    """Startups whose store is away fill their shares, and wait; there is room for another, whatever they do."""
    async with database(tmp_path / FILE_NAME) as state:
        journal = await opened(state, max_size="1000KB")
        away = [f"away-{number}" for number in range(20)]
        for _ in range(1000):
            for startup in away:
                if not journal.is_full_for(startup):
                    journal.appended({startup: Block(1, b"x" * 1000)})
        assert all(journal.is_full_for(startup) for startup in away)
        assert not journal.is_full
        assert not journal.is_full_for("acme")
        assert all(journal.held(startup).bytes > 0 for startup in away)


async def test_startup_alone_gets_most_of_the_journal(tmp_path: Path) -> None:
    """A startup alone may hold three quarters of the readings, then waits until some are removed."""
    async with database(tmp_path / FILE_NAME) as state:
        journal = await opened(state, max_readings=100)
        await append(journal, state, acme=lines(*"a" * 74))
        assert not journal.is_full_for("acme")
        await append(journal, state, acme=lines("b"))
        assert journal.is_full_for("acme")
        await remove(journal, state, await journal.take("acme", 1))
        assert not journal.is_full_for("acme")


async def test_share_is_counted_after_a_restart(tmp_path: Path) -> None:
    """What an earlier run left counts against its startup's share."""
    async with database(tmp_path / FILE_NAME) as state:
        await append(await opened(state), state, acme=lines("a", "bc"))
        journal = await opened(state, max_readings=2)
        assert journal.held("acme") == (2, 4)
        assert journal.is_full_for("acme")


async def test_lane_takes_a_bounded_number_of_bytes(tmp_path: Path) -> None:
    """However long the lines, a lane holds no more than a few megabytes of them at a time."""
    async with database(tmp_path / FILE_NAME) as state:
        journal = await opened(state)
        for _ in range(100):
            await arrive(journal, state, acme=[b"x" * 200_000])
        await journal.sort()
        taken = await journal.take("acme", 5000)
        assert TAKE_AT_ONCE <= sum(len(entry.block) for entry in taken) < 2 * TAKE_AT_ONCE
        total = 0
        while entries := await journal.take("acme", 5000):
            total += sum(entry.readings for entry in entries)
            await remove(journal, state, entries)
        assert (total, journal.readings, journal.bytes, journal.held("acme")) == (100, 0, 0, (0, 0))
