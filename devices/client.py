"""MQTT client of one device: it measures on its own clock, and sends when there is a connection.

    measure -> backlog (bounded, the oldest is dropped) -> publish, QoS 1 -> acknowledged: removed from the backlog

A message leaves the backlog only when the broker has acknowledged it, so that a lost connection costs a
repetition and never a message, as long as the backlog is long enough. A repeated message has the same bytes,
and the time of its measurement.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from random import Random

from aiomqtt import Client, MqttError

from devices.broker import Broker, explain
from devices.fleet import Unit
from devices.settings import Settings
from devices.telemetry import Message

LATENESS = 1.0  # seconds of delay that are caught up; more is skipped: no flood after a laptop's sleep
CONNECT_WITHIN = 3.0  # seconds after the start, also for devices that measure once an hour


@dataclass(slots=True)
class Counters:
    """Counters of one device. A message counts as published once, however often it is repeated.

    Always: made = acknowledged + dropped + waiting in the backlog.
    """

    connected: bool = False
    made: int = 0
    published: int = 0
    repeated: int = 0
    acknowledged: int = 0
    misbehaved: int = 0  # acknowledged messages that were wrong on purpose
    dropped: int = 0  # from a full backlog
    connections: int = 0
    feedback: int = 0
    newest_feedback: bytes = b""
    feedback_at: float = 0.0  # time.monotonic()


class DeviceClient:
    """A client that runs until `finish()`; then it sends its backlog and ends. `notify` gets problems as sentences."""

    def __init__(
        self, unit: Unit, broker: Broker, settings: Settings, rng: Random, notify: Callable[[str], None]
    ) -> None:
        self.startup = unit.startup
        self.identifier = f"{unit.startup}-{unit.name}"
        self.counters = Counters()
        self._feedback = f"feedback/{unit.startup}/{unit.name}"
        self._unit, self._broker, self._settings, self._rng, self._notify = unit, broker, settings, rng, notify
        self._backlog: deque[Message] = deque()
        self._sending: Message | None = None
        self._wake = asyncio.Event()  # there is something to send, or it is time to finish
        self._finishing = asyncio.Event()

    def finish(self) -> None:
        """Stop measuring, send what is left, and end. An unreachable broker is retried until cancelled."""
        self._finishing.set()
        self._wake.set()

    async def run(self, phase: float) -> None:
        """Measure from `phase` seconds on, so that the devices of a fleet do not act at the same time."""
        async with asyncio.TaskGroup() as group:
            measuring = group.create_task(self._measure(phase), name=f"{self.identifier}: measure")
            await self._stay_connected(min(phase, CONNECT_WITHIN))
            measuring.cancel()

    async def _measure(self, phase: float) -> None:
        clock = asyncio.get_running_loop().time
        due = clock() + phase
        while True:
            await asyncio.sleep(due - clock())
            if self._finishing.is_set():
                return
            for message in self._unit.messages(time.time()):
                self._keep(message)
            due = max(due + self._settings.period, clock() - LATENESS)

    def _keep(self, message: Message) -> None:
        if len(self._backlog) >= self._settings.backlog:
            self._backlog.popleft()
            self.counters.dropped += 1
        self._backlog.append(message)
        self.counters.made += 1
        self._wake.set()

    async def _stay_connected(self, pause: float) -> None:
        failures = 0
        while not (self._finishing.is_set() and not self._backlog):
            await self._rest(pause)
            try:
                async with self._broker.client(self.identifier) as client:
                    await self._session(client)
                failures, pause = 0, self._rng.uniform(*self._settings.outage)
            except* (MqttError, OSError) as errors:  # aiomqtt passes some of the socket's own errors on
                was_connected = self.counters.connected
                failures = 0 if was_connected else failures + 1
                pause = self._settings.wait(failures, self._rng)
                self._notify(explain(_first(errors), self._broker, was_connected=was_connected))
            self.counters.connected = False

    async def _rest(self, pause: float) -> None:
        if self._finishing.is_set():  # no time for long waits now
            await asyncio.sleep(min(pause, self._settings.first_wait))
            return
        await _wait(self._finishing, pause)

    async def _session(self, client: Client) -> None:
        """Send and listen until the end, or the next outage. A lost connection is an MqttError, in a group or not."""
        async with asyncio.TaskGroup() as group:
            # The listener notices a lost connection at once; the other calls would wait for their timeout.
            listener = group.create_task(self._listen(client), name=f"{self.identifier}: listen")
            await client.subscribe(self._feedback, qos=1)
            self.counters.connected = True
            self.counters.connections += 1
            await self._send(client, self._settings.until_outage(self._rng))
            listener.cancel()

    async def _send(self, client: Client, seconds: float) -> None:
        """Send the backlog as it fills, until the end, or for some seconds.

        A publish is not interrupted: up to Python 3.11 `asyncio.wait_for`, which aiomqtt uses, may swallow a
        cancellation that arrives together with the acknowledgement.
        """
        clock = asyncio.get_running_loop().time
        until = clock() + seconds
        while clock() < until:
            if self._backlog:
                await self._publish(client, self._backlog[0])
            elif self._finishing.is_set():
                return
            else:
                self._wake.clear()
                await _wait(self._wake, until - clock())

    async def _publish(self, client: Client, message: Message) -> None:
        if message is self._sending:
            self.counters.repeated += 1
        else:
            self.counters.published += 1
        self._sending = message
        await client.publish(message.topic, message.payload, qos=1)
        self.counters.acknowledged += 1
        self.counters.misbehaved += message.fault is not None
        if self._backlog and self._backlog[0] is message:
            self._backlog.popleft()
        else:  # a full backlog has dropped it while it was being sent
            self.counters.dropped -= 1

    async def _listen(self, client: Client) -> None:
        async for message in client.messages:
            self.counters.feedback += 1
            self.counters.feedback_at = time.monotonic()
            self.counters.newest_feedback = message.payload


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Wait until the event is set, or the time is over."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds if seconds < math.inf else None):
            await event.wait()


def _first(errors: BaseExceptionGroup[Exception]) -> Exception:
    """Return the first single error in a group of groups."""
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
