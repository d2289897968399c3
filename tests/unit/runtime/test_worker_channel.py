"""The channel between the supervisor and a worker."""

from __future__ import annotations

import asyncio
import socket

from gateway.metrics import Metrics
from gateway.runtime.worker_channel import CONGESTED, WorkerChannel
from gateway.runtime.worker_messages import LiveEvents, Reply, Request
from tests.servers import WITHIN


async def pair() -> tuple[WorkerChannel, WorkerChannel]:
    ours, theirs = socket.socketpair()
    return await WorkerChannel.over(ours), await WorkerChannel.over(theirs)


async def test_messages_arrive_whole_and_in_order() -> None:
    """Small and large messages, metrics as well, arrive until the other end closes."""
    one, other = await pair()
    families = tuple(await asyncio.to_thread(Metrics().families))
    large = LiveEvents({"acme": []}, [], {"acme" * 100_000: 1})
    for message in (Request(1, 7), large, Reply(1, families=families)):
        one.send(message)
    closing = asyncio.create_task(one.close())
    came = [message async for message in other.messages()]
    assert came[:2] == [Request(1, 7), large]
    assert isinstance(came[2], Reply)
    assert [family.name for family in came[2].families] == [family.name for family in families]
    await closing
    await other.close()


async def test_an_end_that_does_not_read() -> None:
    """A channel whose other end does not read becomes congested soon; for an end that is gone nothing is kept."""
    one, other = await pair()
    assert not one.is_congested
    while not one.is_congested:
        one.send(LiveEvents({}, [], {"x" * (CONGESTED // 4): 1}))
    await other.close()
    async with asyncio.timeout(WITHIN):
        assert [message async for message in one.messages()] == []
    one.send(Request(1))
    await one.close()
