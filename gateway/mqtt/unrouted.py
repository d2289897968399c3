"""Looks for messages that no session receives, because they name a startup that does not exist.

A look is a session of its own that subscribes to all of testbed/ with QoS 0, and passes on what belongs to nobody. It
lasts for as long as it is cheap: above `MAX_MESSAGES` or `MAX_BYTES` a second it ends, and the next one comes after
`PAUSE`. So a typo in a topic is noticed at once on a quiet test bed, and by samples on a busy one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace

from gateway.model import Batch
from gateway.mqtt.session import Access, MakeSession, Session, SessionSpec
from gateway.topics import ROOT, slug_in

MAX_MESSAGES = 200
MAX_BYTES = 256 << 10
SECOND = 1.0
PAUSE = 10.0


class UnroutedLook:
    """A `Source` of messages on testbed/SLUG/… where no startup has that slug. `filled` is as for a session."""

    def __init__(self, client_id: str, slugs: Collection[str], filled: Callable[[], None]) -> None:
        self.slugs = slugs
        self._spec = SessionSpec(client_id, (f"{ROOT}/#",), qos=0, kept=False, max_packet=MAX_BYTES)
        self._filled = filled
        self._session: Session | None = None
        self._messages = 0
        self._bytes = 0

    async def run(self, make: MakeSession, access: Access) -> None:
        """Look, and look again, until cancelled."""
        while True:
            self._session = make(access, self._spec, self._filled)
            looking = asyncio.create_task(self._session.run(), name="session-look")
            try:
                await self._watch()
            finally:
                self._session = None
                looking.cancel()
                with suppress(asyncio.CancelledError):
                    await looking
            await asyncio.sleep(PAUSE)

    async def _watch(self) -> None:
        """Return when the messages of a second are too many."""
        while self._messages <= MAX_MESSAGES and self._bytes <= MAX_BYTES:
            self._messages = self._bytes = 0
            await asyncio.sleep(SECOND)
        self._messages = self._bytes = 0

    def take(self, limit: int) -> Batch | None:
        """Return what belongs to nobody, possibly no messages at all; see the contract of a source."""
        batch = self._session.take(limit) if self._session else None
        if batch is None:
            return None
        self._messages += len(batch.messages)
        self._bytes += sum(len(message.payload) + len(message.topic) for message in batch.messages)
        strays = [message for message in batch.messages if slug_in(message.topic) not in self.slugs]
        return replace(batch, messages=strays)

    def put_back(self, batch: Batch, done: int) -> Batch:
        """See the contract of a source."""
        return self._session.put_back(batch, done) if self._session else batch

    def resume(self) -> None:
        """See the contract of a source. Above its bounds the look reads no more."""
        if self._session is not None and self._messages <= MAX_MESSAGES and self._bytes <= MAX_BYTES:
            self._session.resume()

    def ack(self, batch: Batch) -> None:
        """Acknowledge nothing: the look subscribes with QoS 0."""
