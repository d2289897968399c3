"""Requests of the supervisor to its workers, over real socket pairs."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.errors import StateUnavailable
from gateway.runtime.worker_channel import WorkerChannel
from gateway.runtime.worker_messages import Reply, Request
from gateway.runtime.worker_requests import WorkerRequests


@asynccontextmanager
async def _workers(count: int) -> AsyncIterator[tuple[WorkerRequests, list[WorkerChannel]]]:
    """Yield the requests, and the workers' ends of their channels."""
    ours: dict[int, WorkerChannel] = {}
    theirs = []
    for worker in range(count):
        one, other = socket.socketpair()
        ours[worker] = await WorkerChannel.over(one)
        theirs.append(await WorkerChannel.over(other))
    try:
        yield WorkerRequests(ours), theirs
    finally:
        for channel in [*ours.values(), *theirs]:
            await channel.close()


async def _next(channel: WorkerChannel) -> Request:
    message = await anext(channel.messages())
    assert isinstance(message, Request)
    return message


async def test_each_request_gets_its_own_reply() -> None:
    """Two requests to one worker get their own replies, whichever arrives first."""
    async with _workers(1) as (requests, (worker,)):
        asked = [asyncio.create_task(requests.ask(0, release=slug)) for slug in ("acme", "bolt")]
        first, second = await _next(worker), await _next(worker)
        assert (first.release, second.release) == ("acme", "bolt")
        requests.replied(Reply(second.number, released=True))
        requests.replied(Reply(first.number, released=False))
        assert [one.released for one in await asyncio.gather(*asked)] == [False, True]


async def test_a_silent_worker_is_named() -> None:
    """A worker that does not answer in time is an error of the gateway's state, which names it."""
    async with _workers(1) as (requests, _):
        with pytest.raises(StateUnavailable, match="worker 0 does not answer"):
            await requests.ask(0, 0.01, forget=("acme", "air", "co2"))


async def test_nobody_waits_for_a_worker_that_has_ended() -> None:
    """A worker that ends fails what it was asked; what others were asked goes on."""
    async with _workers(2) as (requests, (_, other)):
        asked = asyncio.create_task(requests.ask_all([0, 1], release="acme"))
        request = await _next(other)
        requests.lost(0)
        requests.replied(Reply(request.number, released=True))
        replies = await asked
        assert {worker: one.released for worker, one in replies.items()} == {1: True}
