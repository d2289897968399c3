"""Tests of gateway.feeds.clock_doctor, on a state database."""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from gateway.config import TopicRule
from gateway.feeds.clock_doctor import ClockDoctor
from gateway.model import Code, FieldValue, Reading, Reason, Rejection
from gateway.state.clock_faults import ClockFault
from gateway.state.database import FILE_NAME
from gateway.state.devices import Device, DeviceRegistry
from gateway.timestamps import NS
from tests.builders import database

NOW = 1_795_000_000 * NS
FIELDS = {"temperature": {"type": "float"}}
RULES = {
    "climate": TopicRule.model_validate(
        {"topic": "testbed/acme/{device}/climate", "time": {"from": "/ts", "unit": "ms"}, "fields": FIELDS}
    ),
    "door": TopicRule.model_validate({"topic": "testbed/acme/{device}/door", "fields": FIELDS}),
}


class Ward:
    """A clock doctor with a registry, and a gateway's clock that a test sets."""

    def __init__(self, registry: DeviceRegistry) -> None:
        self.registry = registry
        self.now_ns = NOW
        self.doctor = ClockDoctor(
            registry, lambda _startup: RULES, lambda topic: topic.rpartition("/")[2], lambda: self.now_ns
        )

    def accept(self, time_ns: int, value: float = 1.0, *, measurement: str = "climate", **tags: str) -> None:
        self.registry.saw("acme", ["th-1"], self.now_ns)
        fields: Mapping[str, FieldValue] = {"temperature": value}
        self.doctor.accepted({"acme": [Reading("acme", "th-1", measurement, tags, fields, time_ns)]})

    def reject(self, got: str, device: str = "th-1") -> None:
        self.registry.saw_rejected("acme", device, 1, self.now_ns)
        reason = Reason(Code.BAD_TIME, "/ts", "a time", got)
        self.doctor.rejected(
            [Rejection("acme", device, f"testbed/acme/{device}/climate", b"{}", self.now_ns, (reason,))]
        )

    @property
    def device(self) -> Device:
        (device,) = self.registry.devices("acme")
        return device


@pytest.fixture
async def ward(tmp_path: Path) -> AsyncIterator[Ward]:
    async with database(tmp_path / FILE_NAME) as state:
        registry = DeviceRegistry(state, {"acme": 10})
        await registry.open()
        yield Ward(registry)


async def test_a_clock_that_is_accepted(ward: Ward) -> None:
    """A device whose times are accepted is found to be ahead, with how far, and stays known by that."""
    for _ in range(6):
        ward.now_ns += 10 * NS
        ward.accept(ward.now_ns + 100 * NS)
    clock = ward.device.clock
    assert clock is not None
    assert (clock.offset, clock.fault) == (100, ClockFault.AHEAD)
    ward.registry.saw("acme", ["th-1"], ward.now_ns)
    assert ward.device.clock == clock


@pytest.mark.parametrize(
    ("got", "fault"),
    [
        ("{s}", ClockFault.WRONG_UNIT),
        ("{s}000000", ClockFault.WRONG_UNIT),
        ("{s}000000000", ClockFault.WRONG_UNIT),
        ("1000", ClockFault.NEVER_SET),
        ("{s}.5", ClockFault.WRONG_UNIT),
    ],
)
async def test_a_clock_that_is_rejected(ward: Ward, got: str, fault: ClockFault) -> None:
    """A device whose times are all rejected learns why, too."""
    for _ in range(6):
        ward.now_ns += 10 * NS
        ward.reject(got.replace("{s}", str(ward.now_ns // NS)))
    clock = ward.device.clock
    assert clock is not None
    assert clock.fault == fault


@pytest.mark.parametrize("got", ["null", '"yesterday"', "true", "[1,2", "1e300", "NaN", '"2026-11-23T08:15:30Z"'])
async def test_what_is_no_time_says_nothing(ward: Ward, got: str) -> None:
    """A time that cannot be read at all says nothing about the clock."""
    for _ in range(6):
        ward.now_ns += 10 * NS
        ward.reject(got)
    assert ward.device.clock is None


async def test_readings_with_one_time(ward: Ward) -> None:
    """A reading with the time of the one before it in its series is counted; a repeated one is not, nor one of another
    series, nor one without a time of its own."""
    ward.accept(NOW, 1.0)
    ward.accept(NOW, 1.0)
    ward.accept(NOW, 2.0, room="a")
    ward.accept(NOW, 3.0, measurement="door")
    ward.accept(NOW, 4.0, measurement="door")
    assert ward.device.overwritten == 0
    ward.accept(NOW, 5.0, room="a")
    assert ward.device.overwritten == 1


async def test_optional_tags_make_series_of_their_own(ward: Ward) -> None:
    """Readings whose tags have the same values under other names overwrite nothing."""
    ward.accept(NOW, 1.0, room="a")
    ward.accept(NOW, 2.0, floor="a")
    assert ward.device.overwritten == 0


async def test_nothing_large_is_kept_of_a_reading(ward: Ward) -> None:
    """The values of the newest reading of each series are compared with the next, and not held until then."""

    class Fields(dict[str, FieldValue]):
        """A dictionary that can be watched."""

    fields = Fields(text="x" * 60_000)
    watched = weakref.ref(fields)
    ward.doctor.accepted({"acme": [Reading("acme", "th-1", "climate", {}, fields, NOW)]})
    del fields
    assert watched() is None


async def test_unknown_devices_take_no_memory(ward: Ward) -> None:
    """Names that the registry does not keep are not judged; a startup that is gone is forgotten."""
    ward.accept(NOW)
    ward.reject("1000", device="#")
    ward.doctor.forget(set())
    assert [device.device for device in ward.registry.devices("acme")] == ["th-1"]
