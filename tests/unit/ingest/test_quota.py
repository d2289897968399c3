"""The meter of one startup's use."""

from __future__ import annotations

from gateway.config import Quota
from gateway.ingest.quota import QuotaMeter
from gateway.model import Code
from gateway.timestamps import NS
from tests.builders import NOW


def meter(**quota: object) -> QuotaMeter:
    return QuotaMeter(Quota.model_validate({"messages": "10/s", **quota}))


def let_in(one: QuotaMeter, now_ns: int, tries: int = 100) -> int:
    one.refill(now_ns)
    return sum(one.take() is None for _ in range(tries))


def test_burst_then_refill() -> None:
    """A full bucket is the burst; it refills with time, and never beyond the burst."""
    one = meter(burst=20)
    assert let_in(one, NOW) == 20
    assert let_in(one, NOW) == 0
    assert let_in(one, NOW + NS // 2) == 5
    assert let_in(one, NOW + NS // 2 + NS // 20) == 0
    assert let_in(one, NOW + NS // 2 + NS // 10) == 1
    assert let_in(one, NOW + 86_400 * NS) == 20


def test_clock_set_back() -> None:
    """A clock that is set back gives nothing, and takes nothing: the bucket refills from there."""
    one = meter(burst=20)
    assert let_in(one, NOW) == 20
    assert let_in(one, NOW - 3600 * NS) == 0
    assert let_in(one, NOW - 3599 * NS) == 10


def test_slow_rates() -> None:
    """A rate of less than one a second adds up."""
    one = QuotaMeter(Quota.model_validate({"messages": "6/m", "burst": 1}))
    assert let_in(one, NOW) == 1
    assert let_in(one, NOW + 9 * NS) == 0
    assert let_in(one, NOW + 10 * NS) == 1


def test_devices_and_series_of_an_earlier_run_are_counted() -> None:
    """Devices and series of an earlier run are not counted as new, and count against the quota."""
    quota = Quota(devices=1, series=2)
    one = QuotaMeter(quota, ["th-1"], ["climate,device=th-1"])
    assert one.admit("th-1", "climate,device=th-1") is None
    assert one.take_new_series() == []
    assert one.admit("th-1", "air,device=th-1") is None
    assert one.take_new_series() == ["air,device=th-1"]
    assert one.take_new_series() == []
    device = one.admit("th-2", "climate,device=th-2")
    series = one.admit("th-1", "power,device=th-1")
    assert device is not None
    assert series is not None
    assert (device.code, device.where) == (Code.OVER_QUOTA, "topic")
    assert (series.code, series.where) == (Code.OVER_QUOTA, "payload")


def test_known_series_is_admitted_in_one_go() -> None:
    """A message of a known series costs one of the bucket; of an unknown series, or when it is empty, nothing."""
    one = meter(burst=2)
    assert one.admit("th-1", "climate,device=th-1") is None
    assert not one.admit_known("climate,device=th-2")
    assert one.left == 2
    assert one.admit_known("climate,device=th-1")
    assert one.admit_known("climate,device=th-1")
    assert not one.admit_known("climate,device=th-1")
    assert one.left == 0


def test_refused_device_does_not_count() -> None:
    """A device that was refused for its series leaves its place among the devices to another."""
    one = QuotaMeter(Quota(devices=2, series=1))
    assert one.admit("th-1", "climate,device=th-1") is None
    assert one.admit("th-2", "climate,device=th-2") is not None
    assert one.devices == {"th-1"}
