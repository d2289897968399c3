"""Tests of gateway.state.sequences."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import from_json

from gateway.state import sequences
from gateway.state.database import FILE_NAME
from gateway.state.sequences import RANGES, Arrival, Sequence, Sequences
from tests.builders import database

KEY = ("acme", "th-1", "climate")


def observed(*numbers: int) -> Sequence:
    sequence = Sequence()
    for number in numbers:
        sequence.observe(number)
    return sequence


@given(st.lists(st.integers(2, 60), unique=True, min_size=1, max_size=40), st.integers(1, 10))
def test_dropped_messages_are_missing(kept: list[int], begins: int) -> None:
    """Messages that are dropped on the way are missing, as many as they are and under their numbers; none else is."""
    numbers = [begins + number for number in sorted(kept)]
    sequence = observed(*numbers)
    dropped = set(range(numbers[0], numbers[-1])) - set(numbers)
    assert sequence.missing == len(dropped)
    assert {n for first, end in sequence.gaps for n in range(first, end + 1)} == dropped
    assert sequence.received == len(numbers)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=80))
def test_the_balance(numbers: list[int]) -> None:
    """Whatever comes in whatever order, what arrived is either counted once or repeated."""
    sequence = observed(*numbers)
    assert sequence.received + sequence.repeated == len(numbers)
    assert sequence.missing >= 0


@pytest.mark.parametrize(
    ("numbers", "received", "missing", "repeated", "late", "restarts"),
    [
        ((1, 2, 3), 3, 0, 0, 0, 0),
        ((1, 2, 2, 3), 3, 0, 1, 0, 0),
        ((1, 3, 2, 4), 4, 0, 0, 1, 0),
        ((5, 9, 7), 3, 2, 0, 1, 0),
        ((7, 8, 0, 1, 2), 5, 0, 0, 0, 1),
        ((7, 8, 1, 2), 4, 0, 0, 0, 1),
        ((1, 5_000_000), 2, 0, 0, 0, 1),
        ((0, 1, 2, 3, 2, 3, 4), 5, 0, 2, 0, 0),
    ],
)
def test_what_is_told_apart(
    numbers: tuple[int, ...], received: int, missing: int, repeated: int, late: int, restarts: int
) -> None:
    """Gaps, repeats, late messages and a device that begins anew are different things."""
    one = observed(*numbers)
    assert (one.received, one.missing, one.repeated, one.late, one.restarts) == (
        received, missing, repeated, late, restarts
    )  # fmt: skip


def test_gaps_are_bounded() -> None:
    """Of more gaps than are remembered the oldest lose their numbers, and are still counted."""
    one = observed(*range(0, 10 * RANGES, 2))
    assert len(one.gaps) == RANGES
    assert one.missing == 5 * RANGES - 1
    assert len(one.kept()) < 2048


async def test_rows_are_read_back(tmp_path: Path) -> None:
    """What a transaction wrote is known after a restart; a device that only sends invalid messages is not kept."""
    async with database(tmp_path / FILE_NAME) as state:
        first = Sequences()
        arrivals = [Arrival(KEY, 1), Arrival(KEY, 4, is_rejected=True), Arrival(("acme", "x", "climate"), 9, True)]
        rows = first.rows(first.observe(arrivals, [(KEY, 1)]))
        await state.write(lambda connection: sequences.save(connection, rows))
        again = Sequences()
        await state.read(again.load)
        ((*key, kept),) = again.rows(again.observe([Arrival(KEY, 5)], []))
        assert tuple(key) == KEY
        assert Sequence(**from_json(kept)).as_json() == {
            "last": 5,
            "received": 3,
            "rejected": 2,
            "missing": 1,
            "gaps": [[2, 3]],
            "repeated": 0,
            "late": 0,
            "restarts": 0,
        }
        again.forget({"beta"})
        assert again.observe([Arrival(KEY, 5, is_rejected=True)], []) == set()


async def test_a_wild_number_of_a_rejected_message_changes_nothing(tmp_path: Path) -> None:
    """A number that no rule has checked is not believed, if it is far from the device's; the next ones count on."""
    async with database(tmp_path / FILE_NAME):
        known = Sequences()
        known.observe([Arrival(KEY, 7)], [])
        assert known.observe([Arrival(KEY, 10**15, is_rejected=True), Arrival(KEY, -1, is_rejected=True)], []) == set()
        ((*_, kept),) = known.rows(known.observe([Arrival(KEY, 9)], []))
        assert from_json(kept)["gaps"] == [[8, 8]]


def test_a_device_that_begins_far_below_begins_anew() -> None:
    """Numbers far below the last one are a new count, not repeats."""
    one = observed(10**15, 8, 9, 12)
    assert (one.received, one.missing, one.repeated, one.restarts) == (4, 2, 0, 1)


@pytest.mark.parametrize(
    "kept", [b"", b"{", b"[]", b'{"gaps":[[3]]}', b'{"unread":""}', b'{"l\xe1st":1}', b'{"last":"x"}']
)
async def test_damaged_rows_begin_anew(tmp_path: Path, kept: bytes) -> None:
    """A row that makes no sense is left out, at the start and for readers."""
    async with database(tmp_path / FILE_NAME) as state:
        await state.write(lambda connection: sequences.save(connection, [(*KEY, kept)]))
        known = Sequences()
        await state.read(known.load)
        assert known.observe([Arrival(KEY, 5, is_rejected=True)], []) == set()
        assert await state.read(lambda connection: sequences.of_device(connection, "acme", "th-1")) == {}
