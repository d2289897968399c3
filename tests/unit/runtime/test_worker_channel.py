"""Channel between the supervisor and a worker."""

from __future__ import annotations

import asyncio
import pickle
import socket

from gateway.metrics import Metrics
from gateway.runtime.worker_channel import CONGESTED, WorkerChannel
from gateway.runtime.worker_messages import LiveEvents, Reply, Request, Use
from tests.builders import config, startup
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


def test_a_reload_sends_what_has_changed() -> None:
    """After a reload a worker has the supervisor's startups, in their order; only those that changed were sent, and the
    others are still its own objects."""
    before = config(startup("acme"), startup("beta"), startup("gamma"))
    workers = pickle.loads(pickle.dumps(Use.of(before, None, frozenset({"acme"})))).config(None)
    beta = startup("beta", name="Beta Labs")
    after = config(startup("alpha"), before.by_slug["acme"], beta)
    use = pickle.loads(pickle.dumps(Use.of(after, before, frozenset())))
    assert [one.slug for one in use.changed] == ["alpha", "beta"]
    assert use.config(workers) == after
    assert use.config(workers).by_slug["acme"] is workers.by_slug["acme"]
