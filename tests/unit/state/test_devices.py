"""Devices and series: which are kept, how long, and how many."""

from __future__ import annotations

import sqlite3
from functools import partial
from pathlib import Path

import pytest

from gateway.errors import StateUnavailable
from gateway.state.clock_faults import ClockFault
from gateway.state.clocks import Clock
from gateway.state.database import FILE_NAME, Database
from gateway.state.devices import Device, DeviceRegistry
from gateway.timestamps import NS
from tests.builders import NOW, database, rule

LIMITS = {"acme": 3, "beta": 3}
RULES = {"climate": rule(silent_after="15m"), "door": rule(silent_after="2d"), "fast": rule(silent_after="10s")}
CLIMATE_NS, DOOR_NS, FAST_NS = 900 * NS, 2 * 86_400 * NS, 10 * NS


def rename(table: str, to: str, connection: sqlite3.Connection) -> None:
    connection.execute(f"ALTER TABLE {table} RENAME TO {to}")


def saw(registry: DeviceRegistry, startup: str, device: str, now_ns: int, accepted: int, rejected: int) -> None:
    """A batch of one device with so many records of each kind."""
    registry.saw(startup, [device] * accepted, now_ns)
    if rejected:
        registry.saw_rejected(startup, device, rejected, now_ns)


async def reopened(state: Database) -> DeviceRegistry:
    registry = DeviceRegistry(state, LIMITS)
    await registry.open()
    return registry


async def test_devices_are_remembered(tmp_path: Path) -> None:
    """Devices and their counts are there after a restart, by name; new counts are added to the old."""
    async with database(tmp_path / FILE_NAME) as state:
        registry = await reopened(state)
        saw(registry, "acme", "th-2", NOW, 1, 0)
        saw(registry, "acme", "th-1", NOW, 5, 0)
        saw(registry, "acme", "th-1", NOW + 1, 2, 3)
        saw(registry, "beta", "b-1", NOW, 1, 0)
        await registry.save()
    async with database(tmp_path / FILE_NAME) as state:
        registry = await reopened(state)
        saw(registry, "acme", "th-2", NOW + 9, 1, 0)
        await registry.save()
        assert (await reopened(state)).devices("acme") == [
            Device("acme", "th-1", NOW, NOW + 1, 7, 3, NOW + 1),
            Device("acme", "th-2", NOW, NOW + 9, 2, 0, 0),
        ]
        assert registry.devices("nobody") == []


async def test_series_are_remembered(tmp_path: Path) -> None:
    """Series are handed over once after a restart; a repeated one is one."""
    async with database(tmp_path / FILE_NAME) as state:
        registry = await reopened(state)
        registry.saw_series("acme", ["a", "b"])
        await registry.save()
        registry.saw_series("acme", ["b", "c"])
        await registry.save()
        again = await reopened(state)
        assert set(again.series("acme")) == {"a", "b", "c"}
        assert set(again.series("acme")) == set()


async def test_a_failed_save_is_tried_again(tmp_path: Path) -> None:
    """A failed save loses nothing: the next one writes the same, with the changes since."""
    async with database(tmp_path / FILE_NAME) as state:
        registry = await reopened(state)
        saw(registry, "acme", "th-1", NOW, 1, 0)
        registry.saw_series("acme", ["a"])
        await state.write(partial(rename, "devices", "away"))
        with pytest.raises(StateUnavailable):
            await registry.save()
        registry.saw_series("acme", ["b"])
        await state.write(partial(rename, "away", "devices"))
        await registry.save()
        again = await reopened(state)
        assert [device.device for device in again.devices("acme")] == ["th-1"]
        assert set(again.series("acme")) == {"a", "b"}


async def test_devices_that_wait_longest_are_saved_first(tmp_path: Path) -> None:
    """A save of so many devices leaves the others for the next: each has its turn, however busy the rest are."""
    async with database(tmp_path / FILE_NAME) as state:
        registry = await reopened(state)
        for now in range(3):
            for name in ("th-3", "th-1", "th-2"):
                saw(registry, "acme", name, NOW + now, 1, 0)
            await registry.save(most=1)
            saved = (await reopened(state)).devices("acme")
            assert [device.device for device in saved] == [["th-3"], ["th-1", "th-3"], ["th-1", "th-2", "th-3"]][now]
        await registry.save_all()
        assert {device.accepted for device in (await reopened(state)).devices("acme")} == {3}


async def test_save_without_changes_writes_nothing(tmp_path: Path) -> None:
    """Saving without a change does not touch the disk."""
    async with database(tmp_path / FILE_NAME) as state:
        registry = await reopened(state)
        saw(registry, "acme", "th-1", NOW, 1, 0)
        await registry.save()

        def changes(connection: sqlite3.Connection) -> int:
            return connection.total_changes

        before = await state.write(changes)
        await registry.save()
        assert await state.write(changes) == before


async def test_limits(tmp_path: Path) -> None:
    """Names beyond the quota, of unknown startups, or invalid as a device's are not kept."""
    async with database(tmp_path / FILE_NAME) as state:
        registry = await reopened(state)
        for name in ("th-1", "bad name", "", "x" * 65, "th-2", "th-3", "th-4"):
            saw(registry, "acme", name, NOW, 1, 0)
        saw(registry, "_unrouted", "th-1", NOW, 0, 1)
        saw(registry, "acme", "th-1", NOW + 1, 1, 0)
        assert [(device.device, device.accepted) for device in registry.devices("acme")] == [
            ("th-1", 2),
            ("th-2", 1),
            ("th-3", 1),
        ]
        assert registry.devices("_unrouted") == []


@pytest.mark.parametrize(
    ("last", "rejected", "state"),
    [
        (NOW, 0, "ok"),
        (NOW, NOW - 1, "ok"),
        (NOW, NOW, "rejected"),
        (NOW - CLIMATE_NS, 0, "ok"),
        (NOW - CLIMATE_NS - 1, 0, "silent"),
        (NOW - CLIMATE_NS - 1, NOW - CLIMATE_NS - 1, "silent"),
    ],
)
def test_states(last: int, rejected: int, state: str) -> None:
    """A device is silent after its rule's `silent_after`, rejected while its newest batch was, and ok otherwise."""
    device = Device("acme", "th-1", NOW - NS, last, 1, 1, rejected, frozenset({"climate"}))
    assert device.state(NOW, RULES) == state
    assert device.as_json(NOW, RULES)["state"] == state


@pytest.mark.parametrize(
    ("measurements", "after_ns"),
    [
        ({"climate"}, CLIMATE_NS),
        ({"door"}, DOOR_NS),
        ({"climate", "door"}, CLIMATE_NS),
        ({"door", "removed"}, DOOR_NS),
        ({"removed"}, FAST_NS),
        (set(), FAST_NS),
    ],
)
def test_silence_follows_the_rules_that_a_device_sends_under(measurements: set[str], after_ns: int) -> None:
    """The shortest `silent_after` of a device's own measurements holds; while it has none, that of any rule."""
    device = Device("acme", "th-1", 0, NOW, measurements=frozenset(measurements))
    assert device.silent_after_ns(RULES) == after_ns
    assert device.state(NOW + after_ns, RULES) == "ok"
    assert device.state(NOW + after_ns + 1, RULES) == "silent"


async def test_measurements_are_those_of_the_series(tmp_path: Path) -> None:
    """A device's measurements are known as soon as it has a series of each, and still after a restart."""
    async with database(tmp_path / FILE_NAME) as state:
        registry = await reopened(state)
        saw(registry, "acme", "th-1", NOW, 1, 0)
        saw(registry, "acme", "th 2", NOW, 0, 1)
        registry.saw_series("acme", [r"climate,a=x\,device\=th-2,device=th-1", "climate,device=th-3"])
        assert [device.measurements for device in registry.devices("acme")] == [{"climate"}]
        registry.saw_series("acme", ["door,device=th-1,room=a", "door,device=th-1,room=b"])
        (device,) = registry.devices("acme")
        assert device.measurements == {"climate", "door"}
        await registry.save()
        assert (await reopened(state)).devices("acme") == [device]
        assert (await reopened(state)).changed(10) == [device]


def test_as_json() -> None:
    """A device's JSON has its times in RFC 3339; one that was never rejected has no such time."""
    shown = Device("acme", "th-1", NOW, NOW + NS, 5).as_json(NOW, RULES)
    assert shown == {
        "device": "th-1",
        "state": "ok",
        "first_seen": "2026-11-18T11:06:40Z",
        "last_seen": "2026-11-18T11:06:41Z",
        "accepted": 5,
        "rejected": 0,
        "last_rejected": None,
        "clock": None,
        "overwritten": 0,
    }
    clock = Clock(7200.0, None, ClockFault.ZONE, "send UTC")
    rejected = Device("acme", "th-1", NOW, NOW, 5, 1, NOW, clock=clock).as_json(NOW, RULES)
    assert rejected["clock"] == {"offset": 7200.0, "drift_ppm": None, "fault": "zone", "says": "send UTC"}
    assert rejected["last_rejected"] == "2026-11-18T11:06:40Z"
