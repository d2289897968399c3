"""Shares: places for all, of which no startup may take so many that another finds none."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, ExitStack

import pytest

from gateway.errors import Crowded
from gateway.shares import QUEUE, SharedBytes, Shares
from tests.servers import WITHIN, eventually, keep_waiting


def test_some_places_stay_free_whatever_one_takes() -> None:
    """One takes half of the places, a second one less than that, and a third still finds one."""
    shares = Shares("things", each=100, total=10)
    with ExitStack() as held:
        for owner, places in (("acme", 5), ("birch", 3), ("cedar", 1)):
            for _ in range(places):
                held.enter_context(shares.place(owner))
            with pytest.raises(Crowded, match=f"{places} are under way") as raised:
                held.enter_context(shares.place(owner))
            assert raised.value.is_own
        with (
            shares.place("dune"),
            pytest.raises(Crowded, match="10 things of all startups") as raised,
            shares.place("elm"),
        ):
            pass
        assert not raised.value.is_own
    with shares.place("acme"):
        pass


def test_each_has_a_bound_of_its_own() -> None:
    """However many places are free, one owner gets no more than `each`."""
    shares = Shares("things", each=2, total=100)
    with shares.place("acme"), shares.place("acme"):
        with pytest.raises(Crowded, match="at most 2 things of one startup"), shares.place("acme"):
            pass
        with shares.place("birch"):
            pass


async def test_waits_for_a_place() -> None:
    """Who waits gets the place that is given back; others get theirs at once meanwhile."""
    shares = Shares("things", each=1, total=10)

    async def use() -> None:
        async with shares.place_within("acme", WITHIN):
            pass

    async with shares.place_within("acme", 0):
        waiting = asyncio.ensure_future(use())
        await keep_waiting(waiting)
        async with shares.place_within("birch", 0):
            pass
    await waiting


async def test_does_not_wait_for_ever() -> None:
    """After its time a wait is over, and no further one begins where very many wait."""
    shares = Shares("things", each=1, total=10)

    async def use(seconds: float) -> None:
        async with shares.place_within("acme", seconds):
            pass

    async with AsyncExitStack() as held:
        await held.enter_async_context(shares.place_within("acme", 0))
        with pytest.raises(Crowded):
            await use(0.01)
        waiting = [asyncio.ensure_future(use(WITHIN)) for _ in range(QUEUE)]
        await keep_waiting(*waiting)
        with pytest.raises(Crowded):
            await use(WITHIN)
    await eventually(lambda: all(one.done() for one in waiting))
    await asyncio.gather(*waiting)


def test_some_bytes_stay_free_whatever_one_takes() -> None:
    """One takes half of the bytes, a second one a part of the rest, and a third still finds some; all come back."""
    room = SharedBytes(1000)
    for _ in range(2):
        taken = {owner: sum(room.take(owner, 10) for _ in range(100)) for owner in ("acme", "birch", "cedar")}
        assert taken == {"acme": 50, "birch": 25, "cedar": 13}
        for owner, pieces in taken.items():
            for _ in range(pieces):
                room.give_back(owner, 10)
