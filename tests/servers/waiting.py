"""Waiting for something to become true, with a bound and a message that helps.

Bounds are for hangs. They are far above what a busy machine needs, and no test measures by them.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")

WITHIN = 120.0
"""Seconds until something counts as a hang; below pytest's own time-out, so that a message says what did not happen."""


@overload
async def eventually(
    condition: Callable[[], Awaitable[T]], *, within: float = ..., every: float = ..., says: str = ...
) -> T: ...
@overload
async def eventually(condition: Callable[[], T], *, within: float = ..., every: float = ..., says: str = ...) -> T: ...
async def eventually(
    condition: Callable[[], T | Awaitable[T]],
    *,
    within: float = WITHIN,
    every: float = 0.02,
    says: str = "the condition holds",
) -> T:
    """Call `condition` (plain or async) every `every` seconds until its value is true; return that value.

    AssertionError after `within` seconds, with `says` and the last value seen. What `condition` itself
    raises passes through, except an AssertionError, which counts as a value that is not true yet.
    """
    last: object = "never came back"
    try:
        async with asyncio.timeout(within) as bound:
            while True:
                try:
                    value = await _value(condition)
                except AssertionError as error:
                    last = error
                else:
                    if value:
                        return value
                    last = value
                await asyncio.sleep(every)
    except TimeoutError:
        if not bound.expired():
            raise
    raise AssertionError(f"not within {within:g} s: {says}; last value: {last!r}")


async def keep_waiting(*tasks: asyncio.Future[Any]) -> None:
    """Run the loop for a moment, and raise AssertionError if one of the tasks has ended.

    Nothing shows that a task will wait for ever: on a slow machine this may overlook one that ends, but it never fails
    without cause.
    """
    done, _ = await asyncio.wait(tasks, timeout=0.05)
    assert not done, f"expected to wait: {done}"


async def _value(condition: Callable[[], T | Awaitable[T]]) -> T:
    value = condition()
    return await value if inspect.isawaitable(value) else value
