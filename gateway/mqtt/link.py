"""A session's connections to its broker, one after the other: what every session needs, whatever its library.

The state that people see, the broker's answers to CONNECT and SUBSCRIBE, and when to connect again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import NoReturn

from gateway.backoff import LASTING, pauses
from gateway.errors import PacketMalformed, SessionError, SessionRejected
from gateway.logs import get_logger
from gateway.mqtt.broker import Broker, rejected_subscription
from gateway.mqtt.session import NOT_YET, SessionState

ANSWER_WITHIN = 10.0
"""Seconds that a broker may take to answer."""
OFTEN = 3
"""Short connections one after the other after which a lost one is not taken for a fault of the network."""
AGAIN = (
    "; again and again: does another client connect with the same client id, or has another host read a newer "
    "configuration?"
)
"""Advice where connections are short: not every broker says that a session was taken over."""

log = get_logger(__name__)


class BrokerLink:
    """Link with `broker` by MQTT `version`. `current` is the number of the connection whose CONNECT the broker has
    answered, and 0 while there is none. Hold `connecting` while a connection is made: it bounds how many of a gateway's
    sessions do so at once."""

    def __init__(self, broker: Broker, version: str, connecting: asyncio.Semaphore, client_id: str) -> None:
        self.broker = broker
        self.version = version
        self.connecting = connecting
        self._client_id = client_id
        self.state = SessionState(connected=False, problem=NOT_YET)
        self.current = 0
        self._connections = 0
        self._began: float | None = None
        self._short = 0
        self._waits = pauses()
        self._answer: asyncio.Future[None] | None = None

    # ------------------------------------------------------------------ connecting, and connecting again

    async def keep_up(self, serve: Callable[[], Awaitable[None]], detach: Callable[[], Awaitable[None]]) -> NoReturn:
        """Serve one connection after another, until cancelled. `serve` raises SessionError when its connection cannot
        go on; `detach` then lets go of it."""
        while True:
            try:
                await serve()
            except SessionError as error:
                self.failed(error)
            except Exception as error:  # of any kind: it is this session's, and must not end the others
                self.failed(SessionError(f"the session failed: {error!r}"))
            await detach()
            await self.pause()

    async def pause(self) -> None:
        """Wait before the next try: ever longer, until a connection has lasted."""
        if self._began is not None and time.monotonic() - self._began > LASTING:
            self._waits = pauses()
        self._began = None
        await asyncio.sleep(next(self._waits))

    # ------------------------------------------------------------------ the state

    def expect_greeting(self) -> None:
        """Raise unless a CONNACK may come now: a second one would make the ids of the messages so far invalid.

        Raises:
            PacketMalformed: it has come already.
        """
        if self.current:
            raise PacketMalformed("the broker sent a second CONNACK on one connection")

    def greeted(self) -> int:
        """Count a connection that the broker has answered; return its number."""
        self._connections += 1
        self.current = self._connections
        return self.current

    def connected(self) -> None:
        """Show that the session is connected and subscribed."""
        self._began = time.monotonic()
        self._show(connected=True)
        say = log.info if self._connections > 1 else log.debug  # `Sessions` announces the first ones together
        say("session connected", client_id=self._client_id, mqtt=self.version, connections=self._connections)

    def failed(self, error: SessionError) -> None:
        """Show and log what keeps the session from being connected; the same problem is logged once."""
        if self._began is not None:
            self._short = 0 if time.monotonic() - self._began > LASTING else self._short + 1
        problem = str(error) + (AGAIN if self._short >= OFTEN else "")
        if problem != self.state.problem:
            log.warning(
                "session not connected",
                client_id=self._client_id,
                problem=problem,
                next="trying again, with growing pauses",
            )
        self._end(problem)

    def stopped(self) -> None:
        """Show that the session has ended on purpose."""
        self._end("stopped")

    def _end(self, problem: str) -> None:
        self.current = 0
        self._show(connected=False, problem=problem)

    def _show(self, *, connected: bool, problem: str = "") -> None:
        self.state = SessionState(connected, problem, self._connections)

    # ------------------------------------------------------------------ the broker's answers

    async def answer(
        self, to_what: str, lost: asyncio.Future[None], is_paused: Callable[[], bool] = lambda: False
    ) -> None:
        """Wait for the answer to what was just sent, which `accept` or `reject` brings. `lost` is done, with the
        reason, when the connection is. While it `is_paused`, no answer can arrive.

        Raises:
            SessionRejected: the broker rejects it.
            BrokerUnreachable: it does not answer in time, or closed the connection.
        """
        self._answer = asyncio.get_running_loop().create_future()
        self._answer.add_done_callback(retrieved)
        both = (self._answer, lost)
        while True:
            was_paused = is_paused()
            done, _ = await asyncio.wait(both, timeout=ANSWER_WITHIN, return_when=asyncio.FIRST_COMPLETED)
            if done or not (was_paused or is_paused()):
                break
        if self._answer in done:
            self._answer.result()
        elif not done:
            self._answer.cancel()
            raise self.broker.silent(to_what, ANSWER_WITHIN, self.version)
        elif isinstance(error := lost.exception(), SessionRejected):
            raise error
        else:
            raise self.broker.closed(f" ({error})", self.version)

    def accept(self) -> None:
        """Accept what was asked of the broker."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(None)

    def reject(self, error: SessionRejected) -> None:
        """Reject what was asked of the broker, with its error."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)

    def subscribed(self, rejected: Sequence[str]) -> None:
        """Take the answer to a SUBSCRIBE. A filter that is rejected ends the connection in the making; where it came
        with a reload the others go on."""
        if not rejected:
            self.accept()
            return
        problem = rejected_subscription(rejected)
        if self._answer is not None and not self._answer.done():
            self.reject(SessionRejected(problem))
        else:
            log.warning("subscription rejected", client_id=self._client_id, problem=problem)
            self._show(connected=True, problem=problem)


def retrieved(outcome: asyncio.Future[None]) -> None:
    """Mark a future's exception as seen, so that asyncio does not log it when nobody waits for it."""
    if not outcome.cancelled():
        outcome.exception()
