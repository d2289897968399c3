"""Whole batches: times of arrival, and the quota by the batch's clock."""

from __future__ import annotations

import json

import pytest

from gateway.config import Startup
from gateway.ingest.pipeline import Outcome, Pipeline
from gateway.model import Code, Rejection
from gateway.timestamps import NS
from tests.builders import NOW, batch, message, pipeline, startup

GOOD, BAD = {"value": 1}, {"value": "x"}


def times(*outcomes: Outcome) -> list[int]:
    return [reading.time_ns for outcome in outcomes for reading in outcome.readings["acme"]]


def test_arrival_times_are_distinct() -> None:
    """Readings without a time of their own get the arrival time, each a different one, in order."""
    made = pipeline()
    payloads = [GOOD, [GOOD, BAD, GOOD], BAD, GOOD]
    first = made.process(batch(*(message(json.dumps(payload)) for payload in payloads)))
    second = made.process(batch(message(), message()))
    found = times(first, second)
    assert found[0] == NOW
    assert found == sorted(set(found))
    assert found[-1] - NOW < 100


def test_rejections_have_times_of_their_own() -> None:
    """Two messages of one batch, accepted or not, never share a time: a replay overwrites nothing."""
    made = pipeline()
    outcome = made.process(batch(message(), message("{"), message(json.dumps([GOOD, BAD])), message()))
    taken = times(outcome)
    rejected = [rejection.arrived_ns for rejection in outcome.rejections]
    assert rejected[0] not in taken
    assert rejected[1] + 1 not in taken  # where the second record of its array will be put


def test_arrival_time_of_a_later_batch() -> None:
    """A batch that comes later has its own arrival time."""
    made = pipeline()
    found = times(made.process(batch(message())), made.process(batch(message(), arrived_ns=NOW + 5)))
    assert found == [NOW, NOW + 5]


def test_clock_that_is_set_back() -> None:
    """After the clock was set back, arrival times follow it, and the quota is refilled again."""
    made = pipeline(startup(quota={"messages": "1/s", "burst": 1}))
    assert times(made.process(batch(message(), arrived_ns=NOW + 3600 * NS))) == [NOW + 3600 * NS]
    back = made.process(batch(message(), arrived_ns=NOW))
    assert [reason.code for reason in back.rejections[0].reasons] == [Code.OVER_QUOTA]
    assert times(made.process(batch(message(), arrived_ns=NOW + NS))) == [NOW + NS]


def test_quota_is_refilled_after_a_message_without_a_rule() -> None:
    """A batch that begins with a message on a topic without a rule refills its startup's quota all the same."""
    made = pipeline(startup(quota={"messages": "1/s", "burst": 1}))
    made.process(batch(message()))
    later = made.process(batch(message(topic="testbed/acme/d/unknown"), message(), arrived_ns=NOW + NS))
    assert [reason.code for rejection in later.rejections for reason in rejection.reasons] == [Code.NO_RULE]
    assert len(later.readings["acme"]) == 1


def tight(**quota: object) -> Startup:
    rule = {
        "topic": "testbed/acme/{device}/climate",
        "fields": {"value": {"type": "float"}},
        "tags": {"room": "/room"},
    }
    return startup("acme", {"climate": rule}, quota=quota)


def process(made: Pipeline, count: int, arrived_ns: int) -> tuple[int, list[Rejection]]:
    outcome = made.process(batch(*[message()] * count, arrived_ns=arrived_ns))
    return len(outcome.readings.get("acme", [])), outcome.rejections


def test_quota_of_messages() -> None:
    """A burst is let in at once; then as many as the rate gives, by the clock of the batches."""
    made = pipeline(tight(messages="10/s", burst=5))
    accepted, rejected = process(made, 8, NOW)
    assert (accepted, len(rejected)) == (5, 3)
    (reason,) = rejected[0].reasons
    assert (reason.code, reason.where) == (Code.OVER_QUOTA, "topic")
    assert reason.expected == "at most 10 messages a second (and 5 at once)"
    accepted, _ = process(made, 8, NOW + NS // 5)
    assert accepted == 2
    accepted, _ = process(made, 8, NOW + 3600 * NS)
    assert accepted == 5


def test_quota_is_of_one_startup() -> None:
    """A startup that is over its quota costs another nothing."""
    made = pipeline(tight(messages="1/s", burst=1), startup("beta"))
    other = message(topic="testbed/beta/b-1/climate")
    outcome = made.process(batch(message(), message(), message(), other, other))
    assert len(outcome.readings["beta"]) == 2
    assert len(outcome.rejections) == 2


def test_unmetered() -> None:
    """A dry run and a replay use up no quota of messages."""
    made = pipeline(tight(messages="1/s", burst=1))
    for _ in range(3):
        assert made.evaluate(message(), NOW, metered=False).readings
    assert process(made, 2, NOW)[0] == 1


def test_quota_of_devices() -> None:
    """A new device beyond the quota is refused by name, those that are known go on."""
    made = pipeline(tight(devices=2))
    topics = [f"testbed/acme/th-{i}/climate" for i in (1, 2, 3, 1)]
    outcome = made.process(batch(*(message(topic=topic) for topic in topics)))
    assert [reading.device for reading in outcome.readings["acme"]] == ["th-1", "th-2", "th-1"]
    (rejection,) = outcome.rejections
    (reason,) = rejection.reasons
    assert (reason.code, reason.expected, reason.got) == (
        Code.OVER_QUOTA,
        "at most 2 devices",
        "the new device 'th-3'",
    )


def test_quota_of_series() -> None:
    """A record with a new set of tags beyond the quota is refused; the others of its array are not."""
    made = pipeline(tight(series=2))
    records = [{"value": i, "room": room} for i, room in enumerate(("a", "b", "c", "a"))]
    outcome = made.process(batch(message(json.dumps(records))))
    assert [reading.fields["value"] for reading in outcome.readings["acme"]] == [0.0, 1.0, 3.0]
    (rejection,) = outcome.rejections
    assert rejection.records == (2,)
    assert rejection.reasons[0].got == "the new series climate,device=th-1,room=c"
    assert "changes with every message" in rejection.reasons[0].hint


@pytest.mark.parametrize("record", [GOOD, BAD])
def test_arrays_use_up_the_quota(record: object) -> None:
    """An array, good or bad, costs as much as that many messages: it is taken whole, and the next ones have to wait."""
    made = pipeline(startup(quota={"messages": "1/s", "burst": 100}))
    first = made.process(batch(message(), message(json.dumps([record] * 140))))
    assert len(first.readings["acme"]) + sum(one.count for one in first.rejections) == 141
    (refused,) = made.process(batch(message())).rejections
    assert [reason.code for reason in refused.reasons] == [Code.OVER_QUOTA]
    later = made.process(batch(message(), arrived_ns=NOW + 60 * NS))
    assert len(later.readings["acme"]) == 1
