"""Rejections, counted into each startup's own store, where Grafana can show them and alert on them:

    gateway_rejections,code=out_of_range,device=th-1,measurement=climate count=3i 1795000060000000000

One point for each device, code and measurement in each interval, none where nothing was rejected. This is a view for
people: dead letters and the ledger are exact, a crash loses the counts of the last interval.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence

from gateway.config.startup_file import REJECTIONS
from gateway.errors import StoreError
from gateway.line_protocol import encode
from gateway.logs import get_logger
from gateway.model import UNROUTED, Reading, Readings, Rejection
from gateway.stores.contract import Store

INTERVAL = 10.0
KINDS = 10_000
"""Different counts that are kept of a startup."""

_Kind = tuple[str, str, str]
"""Device, code, measurement."""

log = get_logger(__name__)


class RejectionCounter:
    """Writes its counts every `INTERVAL` seconds. `measurement_of` returns the measurement of a topic, or "".

    `knows` returns whether a startup has a device: invented names must not become series. While a startup's store is
    away, its counts are added up, `KINDS` of them at most: further devices are counted without their name.
    """

    def __init__(self, store: Store, knows: Callable[[str, str], bool], measurement_of: Callable[[str], str]) -> None:
        self._store = store
        self._knows = knows
        self._measurement_of = measurement_of
        self._counts: dict[str, Counter[_Kind]] = {}
        self._writing: dict[str, asyncio.Task[None]] = {}

    def accepted(self, _readings: Readings, /) -> None:
        """Count nothing: only rejections are counted here."""

    def rejected(self, rejections: Sequence[Rejection], /) -> None:
        """Count each code of each rejection."""
        for rejection in rejections:
            if rejection.startup == UNROUTED:
                continue
            device = rejection.device if self._knows(rejection.startup, rejection.device) else ""
            measurement = self._measurement_of(rejection.topic) if rejection.topic else ""
            for code in {reason.code.value for reason in rejection.reasons}:
                self._add(rejection.startup, (device, code, measurement), rejection.count)

    async def run(self) -> None:
        """Write until cancelled."""
        try:
            while True:
                await asyncio.sleep(INTERVAL)
                self._begin()
        finally:
            for task in self._writing.values():
                task.cancel()

    async def write(self) -> None:
        """Write the counts of all startups; counts that cannot be written now are written with the next."""
        self._begin()
        await asyncio.gather(*self._writing.values())

    def _begin(self) -> None:
        """Begin to write the counts of each startup whose last ones are written: none waits for another."""
        done = [startup for startup, task in self._writing.items() if task.done()]
        for task in [self._writing.pop(startup) for startup in done]:
            task.result()
        now_ns = time.time_ns()
        for startup in self._counts.keys() - self._writing.keys():
            writing = self._write_one(startup, self._counts.pop(startup), now_ns)
            self._writing[startup] = asyncio.create_task(writing, name=f"rejection-counts-{startup}")

    async def _write_one(self, startup: str, counts: Counter[_Kind], now_ns: int) -> None:
        lines = [_line(startup, *kind, count, now_ns) for kind, count in counts.items()]
        try:
            await self._store.write(startup, lines)
        except StoreError as error:
            log.warning("rejections not counted in the store", startup=startup, problem=str(error))
            for kind, count in counts.items():
                self._add(startup, kind, count)

    def _add(self, startup: str, kind: _Kind, count: int) -> None:
        counts = self._counts.setdefault(startup, Counter())
        if len(counts) >= KINDS and kind not in counts:
            kind = ("", kind[1], "")
        counts[kind] += count


def _line(startup: str, device: str, code: str, measurement: str, count: int, time_ns: int) -> bytes:
    tags = {"code": code, "measurement": measurement}
    return encode(Reading(startup, device, REJECTIONS, tags, {"count": count}, time_ns)).encode()
