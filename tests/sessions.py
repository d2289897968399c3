"""One MQTT session for tests, which can wait for its batches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from gateway.config import Mqtt
from gateway.model import Batch
from gateway.mqtt.session import Access, MakeSession, SessionSpec, SessionState

ALL = 1_000_000


class WaitingSession:
    """A session by the settings; `batches` takes what arrives, as the gateway does, until `stop`."""

    def __init__(
        self, make: MakeSession, settings: Mqtt, filters: Sequence[str] = ("testbed/#",), unwanted: Sequence[str] = ()
    ) -> None:
        self._news = asyncio.Event()
        self._is_stopped = False
        spec = SessionSpec(settings.client_id, tuple(filters), tuple(unwanted))
        self.session = make(Access.of(settings), spec, self._news.set)
        self.run = self.session.run
        self.ack = self.session.ack
        self.publish = self.session.publish
        self.subscribe = self.session.subscribe
        self.forget = self.session.forget

    @property
    def state(self) -> SessionState:
        return self.session.state

    def stop(self) -> None:
        self.session.stop()
        self._is_stopped = True
        self._news.set()

    async def batches(self) -> AsyncIterator[Batch]:
        while True:
            self._news.clear()
            while batch := self.session.take(ALL):
                yield batch
            if self._is_stopped:
                return
            self.session.resume()
            await self._news.wait()
