"""Known devices and series. In memory while the gateway runs; nothing per message.

Devices are written behind: a crash loses the last few seconds of a device's counts and of `last_ns`, and never more.
The ledger is exact, this is for people who check whether a device is alive. Series are written with the first reading
of each: the quotas of devices and series are counted from them.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from gateway import timestamps
from gateway.config import TopicRule
from gateway.errors import StateUnavailable
from gateway.line_protocol import device_of
from gateway.state.database import Database
from gateway.topics import device_is_legal

State = Literal["ok", "rejected", "silent"]

_SAVE_DEVICE = """
INSERT INTO devices VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (startup, device) DO UPDATE SET
    last_ns = excluded.last_ns, accepted = excluded.accepted, rejected = excluded.rejected,
    rejected_ns = excluded.rejected_ns
"""


@dataclass(frozen=True, slots=True)
class Device:
    """One device as last seen. Times are ns since 1970; counts are records; `rejected_ns` is 0 for never.

    `measurements` are those that readings of it were accepted under.
    """

    startup: str
    device: str
    first_ns: int
    last_ns: int
    accepted: int = 0
    rejected: int = 0
    rejected_ns: int = 0
    measurements: frozenset[str] = frozenset()

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
    """Devices by startup, and the series of an earlier run. `limits` are devices a startup.

    A device whose reading was accepted is always kept: the quota has bounded these. Of names of which everything was
    rejected so far, as many again are kept: they use up no place of a device.
    """

    def __init__(self, database: Database, limits: Mapping[str, int]) -> None:
        self._database = database
        self.limits = limits
        self._devices: dict[str, dict[str, Device]] = {}
        self._series: dict[str, set[str]] = {}
        self._fresh: dict[str, _Fresh] = {}
        self._unsaved_devices: set[tuple[str, str]] = set()
        self._fresh_series: list[tuple[str, str]] = []
        self._changed: set[tuple[str, str]] = set()

    async def open(self) -> None:
        """Load what an earlier run knew."""
        devices, series = await self._database.read(_load)
        for device in devices:
            self._devices.setdefault(device.startup, {})[device.device] = device
            self._changed.add((device.startup, device.device))
        for startup, key in series:
            self._series.setdefault(startup, set()).add(key)
        self._fresh_series += series

    def devices(self, startup: str) -> list[Device]:
        """Return the devices of a startup, sorted by name."""
        self._settle()
        return sorted(self._devices.get(startup, {}).values(), key=lambda device: device.device)

    def changed(self, most: int) -> list[Device]:
        """Return devices that have changed since they were returned last, some of them; at first all have."""
        self._settle()
        names = [self._changed.pop() for _ in range(min(most, len(self._changed)))]
        return [self._devices[startup][device] for startup, device in names]

    def knows(self, startup: str, device: str) -> bool:
        """Return whether a startup has this device."""
        self._settle()
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

    def _settle(self) -> None:
        """Update the devices with the notes since the last time. Invalid names, and names beyond the limit, are not
        kept: their sender must not fill the memory."""
        several, self._fresh = self._fresh, {}
        for startup, fresh in several.items():
            known = self._devices.setdefault(startup, {})
            accepted = Counter(fresh.accepted)
            limit = self.limits.get(startup, 0)
            room = limit - sum(not device.accepted for device in known.values())
            for device, now_ns in fresh.seen.items():
                if device not in known and not accepted[device]:
                    if room <= 0 or not device_is_legal(device):
                        continue
                    room -= 1
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
                )
                self._unsaved_devices.add((startup, device))
                self._changed.add((startup, device))
        self._settle_series()

    def _settle_series(self) -> None:
        """Add the measurements of the new series to their devices. Nothing is saved: the series are."""
        series, self._fresh_series = self._fresh_series, []
        for startup, key in series:
            measurement, device = key.partition(",")[0], device_of(key.encode())
            known = self._devices.get(startup, {})
            if device in known and measurement not in known[device].measurements:
                known[device] = replace(known[device], measurements=known[device].measurements | {measurement})
                self._changed.add((startup, device))

    def saw_series(self, startup: str, keys: Sequence[str]) -> None:
        """Note series that are new, after `keep_series` has written them."""
        self._fresh_series += [(startup, key) for key in keys]

    @staticmethod
    def keep_series(connection: sqlite3.Connection, series: Mapping[str, Sequence[str]]) -> None:
        """Write new series by startup; runs inside `Database.write`, with the readings that brought them, so that the
        quotas of devices and series hold across a crash."""
        rows = [(startup, key) for startup, keys in series.items() for key in keys]
        connection.executemany("INSERT OR IGNORE INTO series VALUES (?, ?)", rows)

    async def save(self) -> None:
        """Write the changes since the last time.

        Raises:
            StateUnavailable: nothing was written; the next call tries again.
        """
        self._settle()
        names, self._unsaved_devices = self._unsaved_devices, set()
        devices = [self._devices[startup][device] for startup, device in names]
        if not devices:
            return
        try:
            await self._database.write(lambda connection: _save(connection, devices))
        except StateUnavailable:
            self._unsaved_devices |= names
            raise


def _load(connection: sqlite3.Connection) -> tuple[list[Device], list[tuple[str, str]]]:
    devices = [Device(*row) for row in connection.execute("SELECT * FROM devices")]
    return devices, connection.execute("SELECT startup, key FROM series").fetchall()


def _save(connection: sqlite3.Connection, devices: list[Device]) -> None:
    rows = [(d.startup, d.device, d.first_ns, d.last_ns, d.accepted, d.rejected, d.rejected_ns) for d in devices]
    connection.executemany(_SAVE_DEVICE, rows)
