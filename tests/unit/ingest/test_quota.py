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
    """Return how many messages fit, and take them."""
    one.refill(now_ns)
    fitting = min(tries, max(0, int(one.left)))
    one.left -= fitting
    return fitting


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


def test_batch_that_had_to_wait_refills_nothing_twice() -> None:
    """A batch that arrived before the last refill neither adds to the bucket nor lets that time count again."""
    one = meter(burst=20)
    assert let_in(one, NOW) == 20
    for _ in range(10):
        assert let_in(one, NOW + NS, tries=10) + let_in(one, NOW) <= 10
    assert one.left < 1
    assert let_in(one, NOW + 2 * NS) == 10


def test_device_that_had_to_wait_is_refilled_once() -> None:
    """The same for the bucket of one device, from which a batch that arrived earlier is taken in between."""
    device = meter(burst=20, per_device="5/s").of_device("th-1")
    assert device is not None
    taken = 0
    for at_ns in [NOW, *[NOW + NS, NOW] * 10]:
        while device.admits(at_ns):
            device.charge()
            taken += 1
    assert taken == 10 + 5


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


def test_bytes_are_a_bucket_of_their_own() -> None:
    """Bytes refill at their own rate; by default they are 4 KiB for each message of the quota."""
    one = meter(burst=20)
    assert one.bytes_left == 20 * 4096
    one.bytes_left = -4096
    one.refill(NOW)
    before = one.bytes_left
    one.bytes_left = 0
    one.refill(NOW + NS // 10)
    assert before == 20 * 4096  # long ago is full
    assert one.bytes_left == 4096
    assert meter(burst=20, bytes="1KiB").bytes_left == 64 * 1024  # at least one payload of the largest size


def test_message_over_quota_waits_as_long_as_needed() -> None:
    """An empty bucket makes messages wait until the next one fits; within the quota nothing waits."""
    one = meter(burst=20)
    assert one.wait(NOW) == 0
    one.left = -9
    assert one.wait(NOW) == 1.0
    assert one.wait(NOW + NS) == 0


def test_waiting_ends_when_it_does_not_help() -> None:
    """After ten seconds over quota, or with a debt that takes longer, messages are rejected; half a bucket ends it."""
    one = meter(burst=40)
    assert let_in(one, NOW) == 40
    assert one.wait(NOW)
    for second in range(1, 10):
        let_in(one, NOW + second * NS)
        assert one.wait(NOW + second * NS)
    let_in(one, NOW + 10 * NS)
    assert one.wait(NOW + 10 * NS) is None
    assert one.wait(NOW + 11 * NS) == 0
    let_in(one, NOW + 11 * NS)
    assert one.wait(NOW + 11 * NS) is None
    assert one.wait(NOW + 13 * NS) == 0
    let_in(one, NOW + 13 * NS)
    assert one.wait(NOW + 13 * NS)
    one.left = -200
    assert one.wait(NOW + 13 * NS) is None


def test_reason_names_the_bucket_that_is_empty() -> None:
    """The reason says which limit was exceeded, and how many messages it stands for."""
    one = meter(burst=20)
    one.bytes_left = -1
    assert one.over(1).expected == "at most 40,960 bytes a second (and 81,920 at once)"
    one.left = 0
    reason = one.over(1234)
    assert (reason.expected, reason.got) == ("at most 10 messages a second (and 20 at once)", "1,234 more messages")


def test_rejected_device_does_not_count() -> None:
    """A device that was rejected for its series leaves its place among the devices to another."""
    one = QuotaMeter(Quota(devices=2, series=1))
    assert one.admit("th-1", "climate,device=th-1") is None
    assert one.admit("th-2", "climate,device=th-2") is not None
    assert one.devices == {"th-1"}


def test_series_are_bounded_in_bytes() -> None:
    """Series with long names use up the quota before there are too many of them, those of an earlier run too."""
    one = QuotaMeter(Quota.model_validate({"series": 500}), ["th-1"], (f"{i:03}{'x' * 1000}" for i in range(100)))
    admitted = [one.admit("th-1", f"{i:04}{'ü' * 500}") for i in range(100)]
    assert admitted.count(None) == (500 * 256 - 100 * 1003) // 1004
    reason = admitted[-1]
    assert reason is not None
    assert reason.code is Code.OVER_QUOTA
    assert "at most 128,000 bytes" in reason.expected
    assert len(reason.got) < 1200
    assert one.admit("th-1", f"0000{'ü' * 500}") is None, "a known series stays"
