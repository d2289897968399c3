"""Known devices and series. In memory while the gateway runs, written behind: nothing per message.

A crash loses the last few seconds of a device's counts and of `last_ns` (with 10,000 busy devices, five): the ledger is
exact, this is for people who check whether a device is alive.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, Literal, NamedTuple

from gateway import timestamps
from gateway.config import TopicRule
from gateway.errors import StateUnavailable
from gateway.line_protocol import device_of
from gateway.state.clocks import Clock
from gateway.state.database import Database
from gateway.topics import device_is_legal

State = Literal["ok", "rejected", "silent"]

SAVE_MOST = 4000
"""Devices that one `save` writes. With more busy ones each is saved less often, so that their number does not decide
what saving costs."""
PIECE = 500
"""Devices that are updated or written at once: messages wait meanwhile."""

_SAVE_DEVICE = """
INSERT INTO devices VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (startup, device) DO UPDATE SET
    last_ns = excluded.last_ns, accepted = excluded.accepted, rejected = excluded.rejected,
    rejected_ns = excluded.rejected_ns
"""


class Device(NamedTuple):
    """One device as last seen. Times are ns since 1970; counts are records; `rejected_ns` is 0 for never.

    `measurements` are those that readings of it were accepted under. `clock` and `overwritten`, the readings that had
    the time of another one of their series, are learned anew after a restart.
    """

    startup: str
    device: str
    first_ns: int
    last_ns: int
    accepted: int = 0
    rejected: int = 0
    rejected_ns: int = 0
    measurements: frozenset[str] = frozenset()
    clock: Clock | None = None
    overwritten: int = 0

    def silent_after_ns(self, rules: Mapping[str, TopicRule]) -> int:
        """Return the shortest `silent_after` of the rules that it sends under, or of any while it has none.

        `rules` are those of its startup, by measurement. Grafana raises an alert for each rule; whoever sends nothing
        at all has raised the first when it is called silent here.
        """
        own = [rules[name] for name in self.measurements if name in rules]
        return int(min(rule.silent_after for rule in own or rules.values()) * timestamps.NS)

    def state(self, now_ns: int, rules: Mapping[str, TopicRule]) -> State:
        """Return `silent` after that time without a message, `rejected` if its newest message was, else `ok`."""
        if now_ns - self.last_ns > self.silent_after_ns(rules):
            return "silent"
        return "rejected" if self.rejected_ns and self.rejected_ns >= self.last_ns else "ok"

    def as_json(self, now_ns: int, rules: Mapping[str, TopicRule]) -> dict[str, object]:
        return {
            "device": self.device,
            "state": self.state(now_ns, rules),
            "first_seen": timestamps.to_rfc3339(self.first_ns),
            "last_seen": timestamps.to_rfc3339(self.last_ns),
            "accepted": self.accepted,
            "rejected": self.rejected,
            "last_rejected": timestamps.to_rfc3339(self.rejected_ns) if self.rejected_ns else None,
            "clock": self.clock.as_json() if self.clock else None,
            "overwritten": self.overwritten,
        }


@dataclass(slots=True)
class _Fresh:
    """Notes on one startup's devices since the last update, by device. `accepted` has a name for each reading, to be
    counted in one go."""

    accepted: list[str] = field(default_factory=list)
    rejected: Counter[str] = field(default_factory=Counter)
    seen: dict[str, int] = field(default_factory=dict)
    seen_rejected: dict[str, int] = field(default_factory=dict)
    first: dict[str, int] = field(default_factory=dict)

    def saw(self, devices: Iterable[str], now_ns: int) -> None:
        seen = self.seen
        for device in devices:
            if device not in seen:
                self.first[device] = now_ns
            seen[device] = now_ns


class DeviceRegistry:
    """Devices by startup, and the series that are new since the last `save`. `limits` are devices a startup."""

    def __init__(self, database: Database, limits: Mapping[str, int]) -> None:
        self._database = database
        self.limits = limits
        self._devices: dict[str, dict[str, Device]] = {}
        self._series: dict[str, set[str]] = {}
        self._fresh: dict[str, _Fresh] = {}
        self._unsaved_devices: dict[tuple[str, str], None] = {}
        """In the order in which they changed: those that wait longest are saved first."""
        self._unsaved_series: list[tuple[str, str]] = []
        self._fresh_series: dict[str, list[str]] = {}
        self._changed: set[tuple[str, str]] = set()

    async def open(self) -> None:
        """Load what an earlier run knew."""
        devices, series = await self._database.read(_load)
        for device in devices:
            self._devices.setdefault(device.startup, {})[device.device] = device
            self._changed.add((device.startup, device.device))
        for startup, key in series:
            self._series.setdefault(startup, set()).add(key)
            self._fresh_series.setdefault(startup, []).append(key)

    def devices(self, startup: str) -> list[Device]:
        """Return the devices of a startup, sorted by name."""
        self._settle(startup)
        return sorted(self._devices.get(startup, {}).values(), key=lambda device: device.device)

    def changed(self, most: int) -> list[Device]:
        """Return devices that have changed since they were returned last, some of them; at first all have."""
        for startup in {*self._fresh, *self._fresh_series}:
            if len(self._changed) >= most:
                break
            self._settle(startup)
        names = [self._changed.pop() for _ in range(min(most, len(self._changed)))]
        return [self._devices[startup][device] for startup, device in names]

    def knows(self, startup: str, device: str) -> bool:
        """Return whether a startup has this device."""
        self._settle(startup)
        return device in self._devices.get(startup, {})

    def series(self, startup: str) -> Iterable[str]:
        """Hand over the series keys that an earlier run knew: a second call returns none."""
        return self._series.pop(startup, set())

    def saw(self, startup: str, devices: Sequence[str], now_ns: int) -> None:
        """Note the devices of a batch's readings, a name for each reading."""
        fresh = self._fresh.get(startup) or self._fresh.setdefault(startup, _Fresh())
        fresh.accepted += devices
        fresh.saw(devices, now_ns)

    def saw_rejected(self, startup: str, device: str, records: int, now_ns: int) -> None:
        """Note rejected records of a device."""
        fresh = self._fresh.get(startup) or self._fresh.setdefault(startup, _Fresh())
        fresh.rejected[device] += records
        fresh.saw((device,), now_ns)
        fresh.seen_rejected[device] = now_ns

    def saw_series(self, startup: str, keys: Sequence[str]) -> None:
        """Note series that are new, after the batch that brought them."""
        self._unsaved_series += [(startup, key) for key in keys]
        self._fresh_series.setdefault(startup, []).extend(keys)

    def saw_clock(self, startup: str, device: str, clock: Clock) -> None:
        """Note what was learned of a device's clock."""
        self._settle(startup)
        self._replace(startup, device, clock=clock)

    def saw_overwritten(self, startup: str, counts: Mapping[str, int]) -> None:
        """Note, by device, how many readings have overwritten another one."""
        self._settle(startup)
        for device, count in counts.items():
            if known := self._devices[startup].get(device):
                self._replace(startup, device, overwritten=known.overwritten + count)

    def _replace(self, startup: str, device: str, **changes: Any) -> None:
        known = self._devices[startup]
        if device in known:
            known[device] = known[device]._replace(**changes)
            self._changed.add((startup, device))

    def _settle(self, startup: str) -> int:
        """Update the devices of a startup with the notes since the last time; return how many there were. Invalid
        names, and names beyond the limit, are not kept: their sender must not fill the memory."""
        fresh = self._fresh.pop(startup, None) or _Fresh()
        known, limit = self._devices.setdefault(startup, {}), self.limits.get(startup, 0)
        accepted = Counter(fresh.accepted)
        for device, now_ns in fresh.seen.items():
            is_new = device not in known
            if is_new and (len(known) >= limit or not device_is_legal(device)):
                continue
            old = known.get(device) or Device(startup, device, fresh.first[device], now_ns)
            known[device] = Device(
                startup,
                device,
                old.first_ns,
                now_ns,
                old.accepted + accepted[device],
                old.rejected + fresh.rejected[device],
                fresh.seen_rejected.get(device, old.rejected_ns),
                old.measurements,
                old.clock,
                old.overwritten,
            )
            self._unsaved_devices[startup, device] = None
            self._changed.add((startup, device))
        self._settle_series(startup, known)
        return len(fresh.seen)

    def _settle_series(self, startup: str, known: dict[str, Device]) -> None:
        """Add the measurements of the new series to their devices. Nothing is saved: the series are."""
        for key in self._fresh_series.pop(startup, ()):
            measurement, device = key.partition(",")[0], device_of(key.encode())
            if device in known and measurement not in known[device].measurements:
                self._replace(startup, device, measurements=known[device].measurements | {measurement})

    async def save(self, most: int = SAVE_MOST) -> None:
        """Write the new series and at most so many changed devices, those first that wait longest.

        Raises:
            StateUnavailable: the rest was not written; the next call tries again.
        """
        settled = 0
        for startup in [*self._fresh]:
            settled += self._settle(startup)
            if settled >= PIECE:
                settled = 0
                await asyncio.sleep(0)
        await self._save_series()
        while most > 0 and (names := list(islice(self._unsaved_devices, min(most, PIECE)))):
            await self._save_devices(names)
            most -= len(names)

    async def save_all(self) -> None:
        """Write everything; see `save`."""
        await self.save()
        while self._unsaved_devices:
            await self.save()

    async def _save_series(self) -> None:
        series, self._unsaved_series = self._unsaved_series, []
        try:
            for start in range(0, len(series), PIECE):
                await self._database.write(partial(_save_series, series=series[start : start + PIECE]))
        except StateUnavailable:
            self._unsaved_series += series
            raise

    async def _save_devices(self, names: list[tuple[str, str]]) -> None:
        for name in names:
            del self._unsaved_devices[name]
        devices = [self._devices[startup][device] for startup, device in names]
        try:
            await self._database.write(lambda connection: _save_devices(connection, devices))
        except StateUnavailable:
            self._unsaved_devices.update(dict.fromkeys(names))
            raise


def _load(connection: sqlite3.Connection) -> tuple[list[Device], list[tuple[str, str]]]:
    devices = [Device(*row) for row in connection.execute("SELECT * FROM devices")]
    return devices, connection.execute("SELECT startup, key FROM series").fetchall()


def _save_devices(connection: sqlite3.Connection, devices: list[Device]) -> None:
    rows = [(d.startup, d.device, d.first_ns, d.last_ns, d.accepted, d.rejected, d.rejected_ns) for d in devices]
    connection.executemany(_SAVE_DEVICE, rows)


def _save_series(connection: sqlite3.Connection, series: list[tuple[str, str]]) -> None:
    connection.executemany("INSERT OR IGNORE INTO series VALUES (?, ?)", series)
