"""Devices: they publish numbered readings with QoS 1, each with its time, until the broker has acknowledged each.

What the broker acknowledged to them is the truth that a scenario is judged by. A connection that is lost is made again,
and what was not acknowledged is sent again. One message in ten is poison, of a kind that the gateway must reject; its
bytes name its number all the same.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from bench import packets
from tests.servers import WITHIN, eventually
from tests.servers.processes import LOOPBACK

VERSION: packets.Version = 4
WINDOW = 200
"""Messages of a device on their way to the broker."""
TICK = 0.01
AGAIN = 0.1
FIRST = 100_000
"""Number of a device's first message: all numbers have six digits."""
DEVICES = 4
"""Devices of each startup."""
POISON = (
    b'{"ts":%(ts)d,"t":999,"seq":%(seq)d}',  # out of range
    b'{"ts":%(ts)d,"seq":%(seq)d,"t":',  # cut off
    b'{"ts":%(ts)d,"seq":%(seq)d,"t":21.5,"\xff\xfe":1}',  # not UTF-8
    b'{"ts":%(ts)d,"seq":%(seq)d,"t":"warm"}',
    b'[{"ts":%(ts)d,"seq":%(seq)d,"t":21.5,"unknown":1}]',
    b'{"ts":"yesterday","seq":%(seq)d,"t":21.5}',
)
GOOD = b'{"ts":%(ts)d,"t":21.5,"seq":%(seq)d}'


class Broker(Protocol):
    """Anything that listens for MQTT on the loopback interface."""

    port: int


class Device:
    """One device. `acknowledged` are the numbers of its messages that the broker has."""

    def __init__(self, broker: Broker, name: str, topic: str, first: int, base_ms: int) -> None:
        self.acknowledged: set[int] = set()
        self.good = 0
        """How many readings, without the poison, were acknowledged; `forget` does not change it."""
        self.sent = 0
        self.is_good = False
        """Whether it sends no poison."""
        self.rate = 0.0
        self.padding = 0
        """Bytes that are added to each poisonous message."""
        self._broker = broker
        self._name = name
        self._topic = topic
        self._first = first
        self._last = first - 1
        self._base_ms = base_ms
        self._again: deque[int] = deque()
        self._waiting: dict[int, int] = {}
        """Numbers on their way, by packet id."""
        self._due = 0.0

    @property
    def is_done(self) -> bool:
        """Whether the broker has acknowledged everything that was sent."""
        return not self._waiting and not self._again

    async def run(self) -> None:
        """Publish, until cancelled."""
        while True:
            with suppress(OSError, asyncio.IncompleteReadError):
                await self._serve()
            self._again.extendleft(sorted(self._waiting.values(), reverse=True))
            self._waiting.clear()
            await asyncio.sleep(AGAIN)

    async def _serve(self) -> None:
        reader, writer = await asyncio.open_connection(LOOPBACK, self._broker.port)
        try:
            writer.write(packets.connect(self._name, VERSION))
            await reader.readexactly(4)  # CONNACK
            async with asyncio.TaskGroup() as tasks:
                sending = tasks.create_task(self._send(writer))
                try:
                    while True:
                        answer = await reader.readexactly(packets.PUBACK_LENGTH)
                        number = self._waiting.pop(int.from_bytes(answer[2:], "big"))
                        self.good += not is_poison(number)
                        self.acknowledged.add(number)
                finally:
                    sending.cancel()
        except ExceptionGroup as group:
            raise OSError(str(group)) from group
        finally:
            writer.transport.abort()

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(TICK)
            now = time.monotonic()
            self._due = min(WINDOW, self._due + (now - last) * self.rate)
            last = now
            while len(self._waiting) < WINDOW and (number := self._next()) is not None:
                ident = number % 60_000 + 1
                self._waiting[ident] = number
                writer.write(packets.publish(self._topic, self.payload(number), 1, ident, VERSION))
            await writer.drain()

    def _next(self) -> int | None:
        """Return the number that is to be sent now, if any."""
        if self._again:
            return self._again.popleft()
        if self._due < 1:
            return None
        self._due -= 1
        self.sent += 1
        self._last += 2 if self.is_good and is_poison(self._last + 1) else 1
        return self._last

    def payload(self, number: int) -> bytes:
        """Return a message; each has a time of its own, so that each reading is a point of its own."""
        form = POISON[number // 10 % len(POISON)] if is_poison(number) else GOOD
        text = form % {b"ts": self._base_ms + number - self._first, b"seq": number}
        return text + b" " * self.padding if is_poison(number) else text


def is_poison(number: int) -> bool:
    return number % 10 == 9


class Fleet:
    """All devices of all startups. `rate` is messages a second of all together."""

    def __init__(self, broker: Broker, startups: Sequence[str], rate: float) -> None:
        base_ms = time.time_ns() // 1_000_000 - 3_600_000
        self._devices = {
            slug: [
                Device(
                    broker, f"{slug}-{one}", f"testbed/{slug}/d{one}/climate", FIRST * (1 + of * DEVICES + one), base_ms
                )
                for one in range(DEVICES)
            ]
            for of, slug in enumerate(startups)
        }
        self.start_ms = base_ms - 1000
        self._rate = rate
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Fleet:
        self._tasks = [asyncio.create_task(one.run()) for one in self._all]
        return self

    async def __aexit__(self, *_error: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def _all(self) -> list[Device]:
        return [one for devices in self._devices.values() for one in devices]

    @property
    def sent(self) -> int:
        return sum(one.sent for one in self._all)

    @property
    def count(self) -> int:
        """How many messages the broker has acknowledged."""
        return sum(len(one.acknowledged) for one in self._all)

    @property
    def good(self) -> int:
        """How many readings, without the poison, the broker has acknowledged."""
        return sum(one.good for one in self._all)

    def acknowledged(self, startup: str) -> set[int]:
        """Return the numbers of a startup that the broker has acknowledged."""
        return set().union(*(one.acknowledged for one in self._devices[startup]))

    def publish(self, rate: float | None = None) -> None:
        """Publish at a rate, until `pause`."""
        for one in self._all:
            one.rate = (self._rate if rate is None else rate) / len(self._all)

    def pad(self, size: int) -> None:
        """Add bytes to each poisonous message from now on."""
        for one in self._all:
            one.padding = size

    def send_poison(self, *, whether: bool) -> None:
        """Send poison among the readings from now on, or send none."""
        for one in self._all:
            one.is_good = not whether

    async def pause(self) -> None:
        """Publish nothing new, and wait until the broker has acknowledged all."""
        for one in self._all:
            one.rate = one._due = 0.0
        await eventually(lambda: all(one.is_done for one in self._all), within=WITHIN, says="the broker acknowledges")

    def forget(self) -> None:
        """Forget what was acknowledged so far: a scenario destroys what the gateway keeps of it."""
        for one in self._all:
            one.acknowledged.clear()

    async def more(self, count: int) -> None:
        """Wait until the broker has acknowledged so many more."""
        enough = self.count + count
        await eventually(lambda: self.count >= enough, says=f"{count} more messages are acknowledged")
