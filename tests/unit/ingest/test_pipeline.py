"""Messages to readings, lines and rejections: records of arrays, topics, limits of size."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.config import Startup
from gateway.ingest.outcome import Evaluation
from gateway.model import UNROUTED, Code, Counts, Reading, Rejection
from gateway.rules.validator import MAX_REASONS
from gateway.timestamps import NS
from tests.builders import NOW, batch, config, message, outcome_of, pipeline, samples, startup

GOOD, BAD = {"value": 1}, {"value": "x"}


def reject(result: Evaluation) -> Rejection:
    assert not result.readings
    assert result.rejection is not None
    assert result.rejection.reasons
    return result.rejection


def codes(rejection: Rejection) -> list[Code]:
    return [reason.code for reason in rejection.reasons]


def rooms() -> Startup:
    """A startup whose topic captures a room as a tag."""
    rule = {
        "topic": "testbed/acme/{device}/{room}/climate",
        "fields": {"value": {"type": "float"}},
        "tags": {"firmware": "/fw"},
    }
    return startup("acme", {"climate": rule})


def test_good_message() -> None:
    """A good message is a reading, and its line of line protocol."""
    result = pipeline(rooms()).evaluate(message('{"value": 1, "fw": "1.2"}', "testbed/acme/th-1/hall/climate"), NOW)
    assert result == Evaluation(
        [Reading("acme", "th-1", "climate", {"room": "hall", "firmware": "1.2"}, {"value": 1.0}, NOW)],
        [f"climate,device=th-1,firmware=1.2,room=hall value=1.0 {NOW}"],
    )


def test_message_that_was_cut() -> None:
    """It is rejected as too large, with its whole size, even where what is left of it would be valid."""
    rejection = reject(pipeline().evaluate(message('{"value": 1}', cut=5_000_000), NOW))
    (reason,) = rejection.reasons
    assert (reason.code, rejection.size, rejection.cut) == (Code.TOO_LARGE, 5_000_012, 5_000_000)
    assert "5,000,012 bytes" in reason.got
    outcome = outcome_of(pipeline(), batch(message('{"value": 1}'), message(b"", cut=1), message('{"value": 1}')))
    assert len(outcome.readings["acme"]) == 2
    assert [one.reasons[0].code for one in outcome.rejections] == [Code.TOO_LARGE]


def test_array_of_good_and_bad() -> None:
    """Of an array the good records are accepted, and the bad ones listed with their places."""
    result = pipeline().evaluate(message(json.dumps([GOOD, BAD, GOOD, 5])), NOW)
    assert [reading.fields for reading in result.readings] == [{"value": 1.0}] * 2
    assert len(result.lines) == 2
    assert result.rejection is not None
    assert result.rejection.records == (1, 3)
    assert [reason.where for reason in result.rejection.reasons] == ["/1/value", "/3"]
    assert result.rejection.count == 2


@pytest.mark.parametrize(
    ("payload", "where"), [([BAD], "/0/value"), ([[BAD]], "/0"), (BAD, "/value"), (5, "payload"), ([], "payload")]
)
def test_rejected_as_a_whole(payload: Any, where: str) -> None:
    """A message of one record is rejected as a whole, and counts as one."""
    rejection = reject(pipeline().evaluate(message(json.dumps(payload)), NOW))
    assert (rejection.records, rejection.count) == ((), 1)
    assert rejection.reasons[0].where == where


def test_rejection_keeps_the_message() -> None:
    """A rejection has the message as it came, and when."""
    rejection = reject(pipeline().evaluate(message(b"\xff\x00"), NOW))
    assert (rejection.startup, rejection.device) == ("acme", "th-1")
    assert (rejection.topic, rejection.payload, rejection.arrived_ns) == ("testbed/acme/th-1/climate", b"\xff\x00", NOW)


def test_only_some_records() -> None:
    """With `only`, the other records of an array are left out, good or bad."""
    payload = message(json.dumps([GOOD, BAD, {"value": 3}, BAD]))
    result = pipeline().evaluate(payload, NOW, only=(1, 2))
    assert [reading.fields["value"] for reading in result.readings] == [3.0]
    assert result.rejection is not None
    assert result.rejection.records == (1,)


def test_replayed_record_meets_no_other() -> None:
    """A record without a time that is put through later has a time of its own: it overwrites none of its array."""
    payload = message(json.dumps([GOOD, BAD, GOOD]))
    before = pipeline().evaluate(payload, NOW)
    mended = startup(topics={"climate": {"topic": payload.topic.replace("th-1", "{device}"), "fields": ANY}})
    assert before.rejection is not None
    after = pipeline(mended).evaluate(payload, before.rejection.arrived_ns, before.rejection.records)
    times = [reading.time_ns for reading in (*before.readings, *after.readings)]
    assert len(set(times)) == len(times) == 3


ANY = {"value": {"type": "string"}}


@pytest.mark.parametrize(
    "topic", ["sensors/th-1", "testbed", "testbed/", "testbed/beta/th-1/climate", "Testbed/acme/x"]
)
def test_topic_without_a_startup_is_rejected(topic: str) -> None:
    """A topic of no startup belongs to nobody; the reason lists the startups."""
    rejection = reject(pipeline(startup("acme"), startup("gamma")).evaluate(message(topic=topic), NOW))
    assert (rejection.startup, rejection.device) == (UNROUTED, "")
    assert codes(rejection) == [Code.NO_RULE]
    assert "testbed/acme/…, testbed/gamma/…" in rejection.reasons[0].expected
    assert rejection.reasons[0].got == repr(topic)


@pytest.mark.parametrize(
    ("topic", "device", "hint"),
    [
        ("testbed/acme", "", ""),
        ("testbed/acme/th-1", "th-1", ""),
        ("testbed/acme/th-1/power", "th-1", ""),
        ("testbed/acme/th/1/climate", "th", "a device name must not contain a /"),
    ],
)
def test_topic_without_a_rule(topic: str, device: str, hint: str) -> None:
    """For a topic that no rule of its startup matches the reason lists the rules, and hints at a slash too much."""
    rejection = reject(pipeline().evaluate(message(topic=topic), NOW))
    assert (rejection.startup, rejection.device) == ("acme", device)
    assert codes(rejection) == [Code.NO_RULE]
    assert "testbed/acme/{device}/climate" in rejection.reasons[0].expected
    assert rejection.reasons[0].hint == hint


@pytest.mark.parametrize("device", ["th 1", "", "-1", "a,b", "ü\u2028", "x" * 65])
def test_bad_device_name(device: str) -> None:
    """A bad device name rejects every record, and the payload's own reasons stand beside it."""
    topic = f"testbed/acme/{device}/climate"
    assert codes(reject(pipeline().evaluate(message(topic=topic), NOW))) == [Code.BAD_DEVICE]
    both = reject(pipeline().evaluate(message(json.dumps([GOOD, BAD]), topic), NOW))
    assert [(reason.code, reason.where) for reason in both.reasons] == [
        (Code.BAD_DEVICE, "topic"),
        (Code.WRONG_TYPE, "/1/value"),
    ]
    assert both.records == (0, 1)
    assert codes(reject(pipeline().evaluate(message("{", topic), NOW))) == [Code.BAD_DEVICE, Code.NOT_JSON]


@pytest.mark.parametrize("room", ["", "a\\", "a\x07", "x" * 513])
def test_bad_captured_tag(room: str) -> None:
    """A captured level that cannot be a tag is reported by its name."""
    rejection = reject(pipeline(rooms()).evaluate(message(topic=f"testbed/acme/th-1/{room}/climate"), NOW))
    assert codes(rejection) == [Code.BAD_TAG]
    assert "{room}" in rejection.reasons[0].expected


def test_too_large() -> None:
    """A payload beyond the quota is rejected without a look; one at the bound is let in."""
    tight = startup(quota={"payload": "20B"})
    assert pipeline(tight).evaluate(message(b'{"value": 1}'.ljust(20)), NOW).readings
    rejection = reject(pipeline(tight).evaluate(message(b'{"value": 1}'.ljust(21)), NOW))
    assert codes(rejection) == [Code.TOO_LARGE]
    assert (rejection.reasons[0].expected, rejection.reasons[0].got) == ("at most 20 bytes", "21 bytes")


def test_retained_without_a_time() -> None:
    """A retained message is as old as nobody knows: it needs a time of its own."""
    rejection = reject(pipeline().evaluate(message(retain=True), NOW))
    assert codes(rejection) == [Code.BAD_TIME]
    assert "retain flag" in rejection.reasons[0].hint
    timed = startup(
        topics={
            "climate": {
                "topic": "testbed/acme/{device}/climate",
                "time": {"from": "/t", "unit": "ns"},
                "fields": {"value": {"type": "float"}},
            }
        }
    )
    assert pipeline(timed).evaluate(message(f'{{"value": 1, "t": {NOW}}}', retain=True), NOW).readings


def test_programme_that_is_over() -> None:
    """After the last day of its programme (UTC) a startup's messages are rejected, and nobody else's."""
    last = startup("acme", until="2026-11-18")
    midnight = 1_795_046_400 * NS
    made = pipeline(last, startup("beta"))
    assert made.evaluate(message(), midnight - 1).readings
    rejection = reject(made.evaluate(message(), midnight))
    assert codes(rejection) == [Code.ENDED]
    assert "that of acme ended on 2026-11-18" in rejection.reasons[0].expected
    assert made.evaluate(message(topic="testbed/beta/b-1/climate"), midnight).readings


def test_active_startups() -> None:
    """A configuration can leave out the startups whose programme is over."""
    made = config(startup("acme", until="2026-11-17"), startup("beta", until="2026-11-18"), startup("gamma"))
    assert [one.slug for one in made.active(NOW).startups] == ["beta", "gamma"]


def test_reasons_are_bounded() -> None:
    """Of thousands of reasons the first are listed, with a hint that there are more; all records are counted."""
    records = [BAD] * 1500 + [GOOD]
    result = pipeline().evaluate(message(json.dumps(records)), NOW)
    assert len(result.readings) == 1
    assert result.rejection is not None
    assert result.rejection.count == 1500
    assert len(result.rejection.reasons) == MAX_REASONS
    assert result.rejection.reasons[-1].where == f"/{MAX_REASONS - 1}/value"
    assert result.rejection.reasons[-1].hint == f"and more: the first {MAX_REASONS} reasons are listed"
    exactly = reject(pipeline().evaluate(message(json.dumps([BAD] * MAX_REASONS)), NOW))
    assert len(exactly.reasons) == MAX_REASONS
    assert exactly.reasons[-1].hint == ""


def test_counts() -> None:
    """The ledger gets the rejected records of each startup, the journal its readings."""
    made = pipeline(startup("acme"), startup("beta"))
    outcome = outcome_of(
        made,
        batch(
            message(json.dumps([GOOD, BAD, BAD])),
            message(json.dumps([GOOD, GOOD]), "testbed/beta/b-1/climate"),
            message(b"{"),
            message(topic="nowhere"),
        ),
    )
    assert outcome.rejected() == {
        "acme": Counts(received=3, rejected=3),
        UNROUTED: Counts(received=1, rejected=1),
    }
    assert {slug: len(lines) for slug, lines in outcome.lines.items()} == {"acme": 1, "beta": 2}


@pytest.mark.parametrize("topic", ["testbed/acme/{}/climate", "testbed/acme/{}", "testbed/{}", "{}"])
def test_long_topics_are_not_remembered(topic: str) -> None:
    """A topic of 60 kB is rejected in few words, and leaves nothing behind: whoever sends many must not fill the
    memory."""
    one = pipeline()
    long = topic.format("x" * 60_000)
    rejection = reject(one.evaluate(message("{}", long), NOW))
    assert all(len(str(reason)) < 1000 for reason in rejection.reasons)
    assert "characters)" in str(rejection.reasons[0])
    assert one.route(long) is not one.route(long)


def test_more_topics_than_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Topics that come again after they were forgotten are routed as before."""
    monkeypatch.setattr("gateway.ingest.topic_routes.ROUTES_A_SERIES", 1)  # of 5,000: room for some five
    made = pipeline(rooms())
    topics = {device: f"testbed/acme/{device}/hall/climate" for device in "abcdefgh"}
    for device in "abacbacbcababcdefghhgfedcbaaabbggff":
        (reading,) = made.evaluate(message(topic=topics[device]), NOW).readings
        assert (reading.device, reading.tags["room"]) == (device, "hall")


def test_samples_accept_what_their_comments_say() -> None:
    """Each shipped rule takes a message as its startup would send it."""
    made = pipeline(*samples().startups)
    seconds = NOW // 10**9
    for topic, payload in {
        "testbed/acme/th-1/climate": {"ts": seconds * 1000, "t": 21.5, "humidity": 40, "fw": "1.2"},
        "testbed/acme/aq-1/air": {"time": "2026-11-18T11:06:40Z", "co2": 415, "pm": {"2.5": 3}, "lux": 7},
        "testbed/voltwise/ch-1/2/charging": {
            "t": seconds,
            "state": "charging",
            "locked": True,
            "meter": {"voltage": 230.1, "current": 16, "power": 3680, "energy": 1200},
        },
        "testbed/greenbed/p-1/soil": [{"at": seconds - 60, "moisture": 30, "ph": 6.5, "ec": 1.5, "bed": "b2"}],
        "testbed/greenbed/p-1/pump": {"on": True, "flow": 12.5, "rpm": 900},
    }.items():
        result = made.evaluate(message(json.dumps(payload), topic), NOW)
        assert result.rejection is None, result.rejection
        assert len(result.readings) == 1


def test_reasons_of_thousands_of_unknown_members_are_bounded() -> None:
    """A record with thousands of members that no rule names is rejected for the first of them, and no others are
    described: that would take time that other startups wait for."""
    members = ",".join(f'"k{i}":1' for i in range(6000))
    for unknown in ("reject", "keep"):
        rule = {"topic": "testbed/acme/{device}/climate", "fields": ANY, "unknown": unknown}
        rejection = reject(pipeline(startup(topics={"climate": rule})).evaluate(message(f"{{{members}}}"), NOW))
        assert len(rejection.reasons) == MAX_REASONS
        assert "and more" in rejection.reasons[-1].hint
