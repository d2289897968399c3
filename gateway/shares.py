"""Bounded places and bytes that startups share. Pure.

A startup may take no more of them than remain free (the rule of dynamic thresholds in shared-memory switches, Choudhury
and Hahne 1998): alone it gets half, two that take all they can have a third each, and however many do so, some are
free for one that has none.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Hashable, Iterator
from contextlib import asynccontextmanager, contextmanager

from gateway.errors import Crowded

QUEUE = 32
"""Those of one startup that wait for a place: further ones fail at once."""


class SharedBytes:
    """A `total` of bytes; an owner may `take` no more of them than remain free."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._taken: Counter[Hashable] = Counter()
        self._used = 0

    def take(self, owner: Hashable, size: int) -> bool:
        """Take bytes; False where there are none for this owner."""
        if self._taken[owner] + size > self._total - self._used:
            return False
        self._taken[owner] += size
        self._used += size
        return True

    def give_back(self, owner: Hashable, size: int) -> None:
        """Give bytes back that were taken."""
        self._used -= size
        self._taken[owner] -= size
        if not self._taken[owner]:
            del self._taken[owner]


class Shares:
    """`total` places for `what`, at most `each` for one owner."""

    def __init__(self, what: str, each: int, total: int) -> None:
        self._what = what
        self._each = each
        self._total = total
        self._taken: Counter[Hashable] = Counter()
        self._waiting: Counter[Hashable] = Counter()
        self._used = 0
        self._freed = asyncio.Condition()

    @contextmanager
    def place(self, owner: Hashable) -> Iterator[None]:
        """Hold a place.

        Raises:
            Crowded: there is none; the error says whether the owner or all together have too many.
        """
        if not self._is_free(owner):
            raise self._crowded(owner)
        self._take(owner)
        try:
            yield
        finally:
            self._give_back(owner)

    @asynccontextmanager
    async def place_within(self, owner: Hashable, seconds: float) -> AsyncIterator[None]:
        """Hold a place; wait for it, but no longer than `seconds`.

        Raises:
            Crowded: there is none, or too many of the same owner wait already.
        """
        if not self._is_free(owner):
            await self._wait(owner, seconds)
        self._take(owner)
        try:
            yield
        finally:
            self._give_back(owner)
            async with self._freed:
                self._freed.notify_all()

    async def _wait(self, owner: Hashable, seconds: float) -> None:
        if self._waiting[owner] >= QUEUE:
            raise self._crowded(owner)
        self._waiting[owner] += 1
        try:
            async with asyncio.timeout(seconds), self._freed:
                await self._freed.wait_for(lambda: self._is_free(owner))
        except TimeoutError:
            raise self._crowded(owner) from None
        finally:
            self._waiting[owner] -= 1
            if not self._waiting[owner]:
                del self._waiting[owner]

    def _is_free(self, owner: Hashable) -> bool:
        return self._taken[owner] < min(self._each, self._total - self._used)

    def _take(self, owner: Hashable) -> None:
        self._taken[owner] += 1
        self._used += 1

    def _give_back(self, owner: Hashable) -> None:
        self._used -= 1
        self._taken[owner] -= 1
        if not self._taken[owner]:
            del self._taken[owner]

    def _crowded(self, owner: Hashable) -> Crowded:
        taken = self._taken.get(owner, 0)
        if taken:
            return Crowded(
                f"expected at most {self._each} {self._what} of one startup at a time, fewer while others have many; "
                f"{taken} are under way: let one end first",
                is_own=True,
            )
        return Crowded(
            f"expected at most {self._total} {self._what} of all startups at a time; all are taken: try again",
            is_own=False,
        )
