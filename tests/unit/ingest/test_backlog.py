"""Backlogs: what devices send after an outage costs a budget of its own."""

from __future__ import annotations

import json

from gateway.config import Startup
from gateway.ingest.backlog import Backlog
from gateway.ingest.pipeline import Pipeline
from gateway.model import Message
from gateway.timestamps import NS
from tests.builders import NOW, batch, message, outcome_of, pipeline, startup

SECOND = NOW // NS
TIMED = {
    "climate": {
        "topic": "testbed/acme/{device}/climate",
        "fields": {"value": {"type": "float"}},
        "time": {"from": "/at", "unit": "s"},
    }
}


def tight(**quota: object) -> Startup:
    return startup("acme", TIMED, quota={"messages": "1/s", "burst": 5, "backlog": "50s", **quota})


def at(*seconds: int, device: str = "th-1") -> list[Message]:
    """A message for each time, in seconds from now."""
    topic = f"testbed/acme/{device}/climate"
    return [message(json.dumps({"value": 1, "at": SECOND + one}), topic) for one in seconds]


def accepted(made: Pipeline, messages: list[Message], after: int = 0) -> int:
    outcome = outcome_of(made, batch(*messages, arrived_ns=NOW + after * NS))
    return len(outcome.readings.get("acme", []))


def test_a_backlog_is_accepted_beyond_the_burst() -> None:
    """An hour's readings, in order and with their own times, leave the quota for those that are new."""
    made = pipeline(tight())
    assert accepted(made, at(*range(-3600, -3560))) == 40
    assert accepted(made, at(0, 0, 0, 0, 0, 0)) == 5


def test_readings_of_now_are_no_backlog() -> None:
    """Readings of the last minute are not, and neither are old ones that go backwards."""
    assert accepted(pipeline(tight()), at(*range(-59, -19))) == 5
    assert accepted(pipeline(tight()), at(*range(-3600, -3640, -1))) <= 6


def test_a_backlog_is_bounded() -> None:
    """The budget is `quota.backlog` seconds' worth of the quota; then the quota decides. A day later it is full."""
    made = pipeline(tight())
    assert accepted(made, at(*range(-3600, -3500))) == 50 + 5
    assert accepted(made, at(*range(-3500, -3400)), after=1) == 1
    assert accepted(made, at(*range(0, 100)), after=86_400) == 50 + 5


def test_a_batch_that_has_waited_refills_nothing_twice() -> None:
    """Time counts once for the budget, in whatever order batches come that arrived at different times."""
    budget = Backlog(tight(backlog="1d").quota)  # a message a second

    def paid(seconds: int) -> int:
        return sum(budget.pays(1, 0, NOW + seconds * NS) for _ in range(100))

    while budget.pays(1, 0, NOW):
        pass
    assert sum(paid(50) + paid(1) for _ in range(10)) <= 51


def test_a_backlog_is_bounded_in_bytes() -> None:
    """Large messages use up the budget by their bytes."""
    made = pipeline(tight(bytes="1KiB", backlog="20s", payload="1KiB"))
    large = [one._replace(payload=one.payload.ljust(1000)) for one in at(*range(-3600, -3500))]
    assert 19 <= accepted(made, large) <= 26


def test_each_device_has_an_order_of_its_own() -> None:
    """Devices that come back together are distinguished, and the budget is one for all."""
    made = pipeline(tight())
    mixed = [one for i in range(-3600, -3590) for name in "abcd" for one in at(i, device=name)]
    assert accepted(made, mixed) == 40


def test_arrays_are_backlogs() -> None:
    """The records of an array count each; those that are new cost the quota."""
    made = pipeline(tight())
    for minute in (60, 50):
        records = [{"value": 1, "at": SECOND + second} for second in (-60 * minute, -60 * minute, 5 - 60 * minute, 0)]
        assert accepted(made, [message(json.dumps(records))]) == 4
    assert made.meters["acme"].left == 5 - 2


def test_a_device_with_a_quota_of_its_own_is_not_punished() -> None:
    """A backlog costs the device's own quota nothing either."""
    made = pipeline(tight(per_device="1/s", burst=5))
    assert accepted(made, at(*range(-3600, -3560))) == 40


def test_without_a_budget() -> None:
    """`backlog: 0s` has none."""
    assert accepted(pipeline(tight(backlog="0s")), at(*range(-3600, -3560))) == 5
