"""Lock whose owners take turns."""

from __future__ import annotations

import asyncio

from gateway.fair_lock import FairLock


async def _held(lock: FairLock, owner: str, order: list[str]) -> None:
    async with lock.held(owner):
        order.append(owner)


async def test_owner_with_many_waits_is_served_in_turns() -> None:
    """Somebody with one task comes second, however many tasks of another wait already."""
    lock, order = FairLock(), list[str]()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(5):
            tasks.create_task(_held(lock, "acme", order))
        tasks.create_task(_held(lock, "birch", order))
    assert order.index("birch") <= 2


async def test_holders_never_follow_one_another_in_one_turn_of_the_loop() -> None:
    """Tasks that others have scheduled run between two holders, also where nobody waits."""
    lock, seen = FairLock(), list[str]()

    async def hold() -> None:
        async with lock.held("acme"):
            seen.append("held")
            asyncio.get_running_loop().call_soon(seen.append, "others")

    async with asyncio.TaskGroup() as tasks:
        for _ in range(3):
            tasks.create_task(hold())
    assert seen == ["held", "others"] * 3


async def test_waiting_may_be_given_up() -> None:
    """One that is cancelled while it waits, or as its turn comes, keeps the lock from nobody."""
    lock, order = FairLock(), list[str]()
    await lock.acquire("acme")
    waiting = [asyncio.create_task(_held(lock, "birch", order)) for _ in range(2)]
    last = asyncio.create_task(_held(lock, "cord", order))
    await asyncio.sleep(0)
    waiting[0].cancel()
    lock.release()
    await asyncio.sleep(0)  # now it is the second one's turn, and it has not run yet
    waiting[1].cancel()
    await last
    assert order[-1] == "cord"
    await lock.acquire("acme")


async def test_it_may_stay_closed_for_a_while() -> None:
    """Given back with a rest, it is not free before."""
    lock = FairLock()
    loop = asyncio.get_running_loop()
    await lock.acquire("acme")
    began = loop.time()
    lock.release(0.02)
    await lock.acquire("acme")
    assert loop.time() - began >= 0.02 - 0.002


async def test_an_owner_that_gives_up_keeps_its_place() -> None:
    """Where the first of an owner's tasks gives up, its next one has the turn, before owners that came later."""
    lock, order = FairLock(), []

    async def hold(owner: str) -> None:
        async with lock.held(owner):
            order.append(owner)

    await lock.acquire("other")
    given_up, *waiting = [asyncio.create_task(hold(owner)) for owner in ("acme", "acme", "birch")]
    await asyncio.sleep(0)
    given_up.cancel()
    lock.release()
    await asyncio.gather(*waiting)
    assert order == ["acme", "birch"]
