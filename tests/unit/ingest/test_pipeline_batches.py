"""Whole batches: times of arrival, and the quota by the batch's clock."""

from __future__ import annotations

import json

import pytest

from gateway.config import Startup
from gateway.ingest.outcome import Outcome
from gateway.ingest.pipeline import Pipeline
from gateway.ingest.samples import MAX_BYTES, MAX_DEVICES
from gateway.model import UNROUTED, Code, Counts, Rejection
from gateway.timestamps import NS
from tests.builders import NOW, batch, message, outcome_of, pipeline, startup

GOOD, BAD = {"value": 1}, {"value": "x"}


def times(*outcomes: Outcome) -> list[int]:
    return [reading.time_ns for outcome in outcomes for reading in outcome.readings["acme"]]


def test_arrival_times_are_distinct() -> None:
    """Readings without a time of their own get the arrival time, each a different one, in order."""
    made = pipeline()
    payloads = [GOOD, [GOOD, BAD, GOOD], BAD, GOOD]
    first = outcome_of(made, batch(*(message(json.dumps(payload)) for payload in payloads)))
    second = outcome_of(made, batch(message(), message()))
    found = times(first, second)
    assert found[0] == NOW
    assert found == sorted(set(found))
    assert found[-1] - NOW < 100


def test_rejections_have_times_of_their_own() -> None:
    """Two messages of one batch, accepted or not, never share a time: a replay overwrites nothing."""
    made = pipeline()
    outcome = outcome_of(made, batch(message(), message("{"), message(json.dumps([GOOD, BAD])), message()))
    taken = times(outcome)
    rejected = [rejection.arrived_ns for rejection in outcome.rejections]
    assert rejected[0] not in taken
    assert rejected[1] + 1 not in taken  # where the second record of its array will be put


def test_arrival_time_of_a_later_batch() -> None:
    """A batch that comes later has its own arrival time."""
    made = pipeline()
    found = times(outcome_of(made, batch(message())), outcome_of(made, batch(message(), arrived_ns=NOW + 5)))
    assert found == [NOW, NOW + 5]


def test_clock_that_is_set_back() -> None:
    """After the clock was set back, arrival times follow it, and the quota is refilled again."""
    made = pipeline(startup(quota={"messages": "1/s", "burst": 1}))
    assert times(outcome_of(made, batch(message(), arrived_ns=NOW + 3600 * NS))) == [NOW + 3600 * NS]
    back = outcome_of(made, batch(message(), arrived_ns=NOW))
    assert [reason.code for reason in back.rejections[0].reasons] == [Code.OVER_QUOTA]
    assert times(outcome_of(made, batch(message(), arrived_ns=NOW + NS))) == [NOW + NS]


def test_quota_is_refilled_after_a_message_without_a_rule() -> None:
    """A batch that begins with a message on a topic without a rule refills its startup's quota all the same."""
    made = pipeline(startup(quota={"messages": "2/s", "burst": 2}))
    outcome_of(made, batch(message(), message()))
    later = outcome_of(made, batch(message(topic="testbed/acme/d/unknown"), message(), arrived_ns=NOW + NS))
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
    outcome = outcome_of(made, batch(*[message()] * count, arrived_ns=arrived_ns))
    return len(outcome.readings.get("acme", [])), outcome.rejections


def test_quota_of_messages() -> None:
    """A burst is let in at once; then as many as the rate gives, by the clock of the batches."""
    made = pipeline(tight(messages="10/s", burst=5))
    accepted, rejected = process(made, 8, NOW)
    assert (accepted, len(rejected)) == (5, 1)
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
    outcome = outcome_of(made, batch(message(), message(), message(), other, other))
    assert len(outcome.readings["beta"]) == 2
    assert outcome.rejected() == {"acme": Counts(received=2, rejected=2)}


def test_unmetered() -> None:
    """A dry run and a replay use up no quota of messages."""
    made = pipeline(tight(messages="1/s", burst=1))
    for _ in range(3):
        assert made.evaluate(message(), NOW).readings
    assert process(made, 2, NOW)[0] == 1


def test_quota_of_devices() -> None:
    """A new device beyond the quota is rejected by name, those that are known go on."""
    made = pipeline(tight(devices=2))
    topics = [f"testbed/acme/th-{i}/climate" for i in (1, 2, 3, 1)]
    outcome = outcome_of(made, batch(*(message(topic=topic) for topic in topics)))
    assert [reading.device for reading in outcome.readings["acme"]] == ["th-1", "th-2", "th-1"]
    (rejection,) = outcome.rejections
    (reason,) = rejection.reasons
    assert (reason.code, reason.expected, reason.got) == (
        Code.OVER_QUOTA,
        "at most 2 devices",
        "the new device 'th-3'",
    )


def test_quota_of_series() -> None:
    """A record with a new set of tags beyond the quota is rejected; the others of its array are not."""
    made = pipeline(tight(series=2))
    records = [{"value": i, "room": room} for i, room in enumerate(("a", "b", "c", "a"))]
    outcome = outcome_of(made, batch(message(json.dumps(records))))
    assert [reading.fields["value"] for reading in outcome.readings["acme"]] == [0.0, 1.0, 3.0]
    (rejection,) = outcome.rejections
    assert rejection.records == (2,)
    assert rejection.reasons[0].got == "the new series climate,device=th-1,room=c"
    assert "changes with every message" in rejection.reasons[0].hint


@pytest.mark.parametrize("record", [GOOD, BAD])
def test_arrays_use_up_the_quota(record: object) -> None:
    """An array, good or bad, costs as much as that many messages: it is taken whole, and the next ones have to wait."""
    made = pipeline(startup(quota={"messages": "1/s", "burst": 100}))
    first = outcome_of(made, batch(message(), message(), message(json.dumps([record] * 99))))
    assert len(first.readings["acme"]) + sum(one.count for one in first.rejections) == 101
    (rejected,) = outcome_of(made, batch(message())).rejections
    assert [reason.code for reason in rejected.reasons] == [Code.OVER_QUOTA]
    later = outcome_of(made, batch(message(), arrived_ns=NOW + 60 * NS))
    assert len(later.readings["acme"]) == 1


def test_array_larger_than_the_burst_is_rejected_whole() -> None:
    """An array that can never be within the quota is rejected by its size, before its records are looked at."""
    made = pipeline(startup(quota={"messages": "1/s", "burst": 10}))
    for record in (GOOD, BAD):
        (rejection,) = outcome_of(made, batch(message(json.dumps([record] * 11)), arrived_ns=NOW)).rejections
        (reason,) = rejection.reasons
        assert (reason.code, reason.expected, reason.got) == (
            Code.OVER_QUOTA,
            "at most 10 records in one message",
            "11 records",
        )


@pytest.mark.parametrize("topic", ["testbed/acme/th-1/climate", "testbed/acme/th-1/unknown", "testbed/acme"])
def test_quota_of_bytes(topic: str) -> None:
    """Every message costs its bytes, topic included, whether a rule matches it or not."""
    made = pipeline(startup(quota={"bytes": "1KiB", "messages": "1000/s", "burst": 1000, "payload": "1KiB"}))
    payload = b'{"value": 1}'.ljust(512 - len(topic))
    first = outcome_of(made, batch(*[message(payload, topic)] * 3))
    assert first.unread == {"acme": 1}
    (sample,) = [one for one in first.rejections if one.stands_for]
    assert sample.reasons[0].expected == "at most 1,024 bytes a second (and 1,024 at once)"
    assert outcome_of(made, batch(message(payload, topic), arrived_ns=NOW + NS)).unread == {}


def test_samples_are_bounded_in_bytes() -> None:
    """Large messages over quota are counted and sampled, but however many devices send them, only a few are held."""
    made = pipeline(tight(messages="1/s", burst=1))
    payload = b"x" * 300_000
    topics = [f"testbed/acme/d{i}/climate" for i in range(20)]
    messages = [message(bytes(payload), topic) for _ in range(3) for topic in topics]
    outcome = outcome_of(made, batch(*messages))
    held = made.samples.due(NOW + NS)
    assert sum(len(one.payload) for one in held) <= MAX_BYTES + len(payload)
    assert sum(one.stands_for for one in (*outcome.rejections, *held)) == outcome.unread["acme"] == 59


def test_times_stay_distinct_whatever_came_between() -> None:
    """Messages that had to wait, behind those of others or over a reload, get times that no other has."""
    made = pipeline(startup("acme"), startup("beta"))
    other = message(topic="testbed/beta/b-1/climate")
    outcome = Outcome()
    made.process(batch(*[message()] * 10), outcome)
    made.process(batch(*[other] * 10, arrived_ns=NOW + 5 * NS), outcome)
    made.process(batch(*[message()] * 10), outcome)
    after = pipeline(startup("acme"), startup("beta"), previous=made)
    after.process(batch(*[message()] * 10), outcome)
    after.process(batch(*[other] * 10, arrived_ns=NOW + 5 * NS), outcome)
    for readings in outcome.readings.values():
        stamps = [reading.time_ns for reading in readings]
        assert sorted(set(stamps)) == stamps


def test_messages_that_belong_to_another_wait_for_nobody() -> None:
    """Messages in a session whose topic is no longer its startup's are rejected over their own quota: the messages
    behind them are reached all the same."""
    made = pipeline(tight())
    strays = [message(topic="left/over")] * 500
    outcome = Outcome()
    assert made.process(batch(*strays, message()), outcome, waits=made.meters["acme"]) == 501
    assert len(outcome.readings["acme"]) == 1
    assert outcome.rejected()[UNROUTED].rejected == 500


def test_messages_over_quota_can_wait() -> None:
    """With `waits` the pipeline stops before the first message over quota, and says how many it has processed."""
    made = pipeline(tight(messages="1/s", burst=2))
    outcome = Outcome()
    many = batch(*[message()] * 5)
    assert made.process(many, outcome, waits=made.meters["acme"]) == 2
    assert made.process(many, outcome, waits=made.meters["acme"]) == 0
    assert (len(outcome.readings["acme"]), outcome.rejections) == (2, [])


def test_of_messages_over_quota_one_a_second_is_kept_for_each_device() -> None:
    """The first is kept at once, then one for all that follow within a second; each is counted once in the ledger."""
    made = pipeline(tight(messages="1/s", burst=1))
    topics = ["testbed/acme/th-1/climate", "testbed/acme/th-2/climate"]
    many = [message(f'{{"value": {i}}}', topic) for i in range(10) for topic in topics]
    outcome = outcome_of(made, batch(*many))
    assert outcome.rejected() == {"acme": Counts(received=19, rejected=19)}
    assert [(one.device, one.stands_for) for one in outcome.rejections] == [("th-2", 1), ("th-1", 1)]
    assert made.samples.due(NOW + NS - 1) == []
    later = made.samples.due(NOW + NS)
    assert [(one.device, one.stands_for, one.payload) for one in later] == [
        ("th-2", 9, b'{"value": 9}'),
        ("th-1", 8, b'{"value": 9}'),
    ]
    assert later[1].reasons[0].got == "8 more messages"
    assert made.samples.due(NOW + 2 * NS) == []
    assert not made.samples.is_pending


def test_quota_of_one_device() -> None:
    """A device above its own quota is rejected at once, and costs its startup and the other devices nothing."""
    made = pipeline(tight(messages="100/s", burst=200, per_device="5/s"))
    flood = [message(topic="testbed/acme/flood/climate"), message(topic="testbed/acme/flood/unknown")] * 50
    outcome = outcome_of(made, batch(*flood, *[message()] * 10))
    assert [reading.device for reading in outcome.readings["acme"]].count("th-1") == 10
    assert outcome.unread == {"acme": 90}
    (sample,) = [one for one in outcome.rejections if one.stands_for]
    assert sample.reasons[0].expected == "at most 5 messages a second of one device"
    assert made.meters["acme"].left == 180
    later = outcome_of(made, batch(*flood, arrived_ns=NOW + NS))
    assert later.unread == {"acme": 95}


def test_blocked_device_is_rejected_unread() -> None:
    """A blocked device learns that an operator has blocked it, on any topic, and costs its startup nothing; the others
    go on."""
    made = pipeline(startup(blocked=["flood"], quota={"messages": "1/s", "burst": 5}))
    topics = ["testbed/acme/flood/climate", "testbed/acme/flood/unknown"] * 50
    outcome = outcome_of(made, batch(*(message(topic=topic) for topic in topics), message()))
    assert [reading.device for reading in outcome.readings["acme"]] == ["th-1"]
    (sample,) = outcome.rejections
    assert [reason.code for reason in sample.reasons] == [Code.BLOCKED]
    assert outcome.rejected() == {"acme": Counts(received=100, rejected=100)}
    assert made.meters["acme"].left == 4
    again = made.evaluate(message(topic=topics[0]), NOW).rejection
    assert again is not None
    assert again.reasons[0].code is Code.BLOCKED


def test_samples_of_invented_devices_are_bounded() -> None:
    """Devices beyond a bound share one sample, and so do those of startups that do not exist."""
    made = pipeline(tight(messages="1/s", burst=1))
    topics = [f"testbed/acme/invented-{i}/climate" for i in range(500)]
    outcome = outcome_of(made, batch(*(message(topic=topic) for topic in topics)))
    assert len(outcome.rejections) <= MAX_DEVICES + 1
    rest = made.samples.due(NOW + NS)
    assert sum(one.stands_for for one in (*outcome.rejections, *rest)) == 499
    strays = outcome_of(made, batch(*(message(topic=f"testbed/{i}/x") for i in range(1000))))
    assert 100 < len(strays.rejections) <= 102
    assert strays.rejected()[UNROUTED].rejected == 1000


def test_a_reload_keeps_the_types_of_fields() -> None:
    """A member that no rule names keeps its type, whichever startup's file changes: so does the store."""
    keeps = {"climate": {"topic": "testbed/acme/{device}/climate", "fields": {"value": {"type": "float"}}}}
    keeps["climate"]["unknown"] = "keep"
    acme = startup("acme", keeps)
    before = pipeline(acme)
    assert before.evaluate(message('{"value": 1, "note": 5}'), NOW).readings
    after = pipeline(acme, startup("beta"), previous=before)
    assert outcome_of(after, batch(message('{"value": 1, "note": "five"}'))).rejections
    changed = pipeline(startup("acme", keeps, name="Acme Sky"), previous=after)
    assert outcome_of(changed, batch(message('{"value": 1, "note": "five"}'))).rejections
