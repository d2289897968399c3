"""Requests of the supervisor to its workers, each with one reply."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from gateway.errors import StateUnavailable
from gateway.runtime.worker_channel import WorkerChannel
from gateway.runtime.worker_messages import Reply, Request

WITHIN = 5.0


class WorkerRequests:
    """`ask` a worker that has a channel; `replied` and `lost` are called as replies arrive and workers end."""

    def __init__(self, channels: Mapping[int, WorkerChannel]) -> None:
        self._channels = channels
        self._numbers = itertools.count()
        self._replies: dict[int, tuple[int, asyncio.Future[Reply]]] = {}

    async def ask(self, worker: int, within: float = WITHIN, **asked: Any) -> Reply:
        """Return the reply of a worker; `asked` are the members of the request.

        Raises:
            StateUnavailable: it has ended, or does not answer in so many seconds.
        """
        number = next(self._numbers)
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._replies[number] = worker, reply
        try:
            self._channels[worker].send(Request(number, **asked))
            async with asyncio.timeout(within):
                return await reply
        except TimeoutError:
            raise StateUnavailable(f"worker {worker} does not answer; is the machine overloaded?") from None
        finally:
            self._replies.pop(number, None)

    async def ask_all(self, workers: Iterable[int], **asked: Any) -> dict[int, Reply]:
        """Return the replies of several workers; one that gives none is left out."""
        asked_of = list(workers)
        replies = await asyncio.gather(*(self.ask(worker, **asked) for worker in asked_of), return_exceptions=True)
        return {worker: one for worker, one in zip(asked_of, replies, strict=True) if isinstance(one, Reply)}

    def replied(self, message: Reply) -> None:
        """Pass on a reply to whoever waits for it."""
        _, reply = self._replies.get(message.number, (0, None))
        if reply is not None and not reply.done():
            reply.set_result(message)

    def lost(self, worker: int) -> None:
        """Let nobody wait for a worker that has ended."""
        for of, reply in list(self._replies.values()):
            if of == worker and not reply.done():
                reply.set_exception(StateUnavailable(f"worker {worker} has ended"))
