"""Fields that no rule names: their messages wait until their types are certain."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.ingest.numbers import Numbers
from gateway.ingest.outcome import Outcome
from gateway.ingest.pipeline import Pipeline, unused
from gateway.ingest.settling import AT_ONCE, MOST, STARTUPS_AT_ONCE
from gateway.model import Code, Reason
from gateway.rules.field_types import NUMBER_WAITS_NS, OTHER_WAITS_NS, VALUES, FieldTypes
from gateway.state.sequences import Sequence, Sequences
from gateway.timestamps import NS
from tests.builders import NOW, batch, config, message, outcome_of, startup

KEEPS = {
    "climate": {
        "topic": "testbed/acme/{device}/climate",
        "fields": {"value": {"type": "float"}},
        "unknown": "keep",
    }
}


def keeping(types: FieldTypes | None = None) -> Pipeline:

    made = config(startup("acme", KEEPS))
    return Pipeline(made, unused(made.startups), types=types)


def send(made: Pipeline, device: str, after_ns: int = 0, **members: Any) -> Outcome:
    """Process a message, as on disk at once, and what it decides."""
    payload = json.dumps({"value": 1, **members})
    now_ns = NOW + after_ns
    outcome = outcome_of(made, batch(message(payload, f"testbed/acme/{device}/climate"), arrived_ns=now_ns))
    made.waiting.written(outcome.waiting)
    made.decide(now_ns, outcome)
    made.take_new(now_ns, outcome)
    return outcome


def kept(outcome: Outcome, name: str = "x") -> list[tuple[str, Any]]:
    return [(one.device, one.fields[name]) for one in outcome.readings.get("acme", [])]


def the_reason(outcome: Outcome) -> Reason:
    (rejection,) = outcome.rejections
    (reason,) = rejection.reasons
    return reason


def test_two_devices_make_a_type_certain() -> None:
    """The first value waits, and is accepted with the second device's, at the time when it arrived."""
    made = keeping()
    assert not send(made, "a", x="open").readings
    outcome = send(made, "b", NS, x="shut")
    assert sorted(kept(outcome)) == [("a", "open"), ("b", "shut")]
    assert {one.device: one.time_ns for one in outcome.readings["acme"]} == {"a": NOW, "b": NOW + NS}
    assert len(outcome.decided) == 1
    assert ("x", "string", "a") in [(one.field, one.type, one.device) for one in outcome.types]
    assert kept(send(made, "c", x="ajar")) == [("c", "ajar")]


def test_one_odd_value_bars_no_other() -> None:
    """A device that sends n/a first does not fix the type: the others' numbers do, and n/a is rejected by name."""
    made = keeping()
    assert not send(made, "odd", x="n/a").rejections
    assert not send(made, "a", x=1).rejections
    outcome = send(made, "b", x=2.5)
    assert sorted(kept(outcome)) == [("a", 1.0), ("b", 2.5)]
    reason = the_reason(outcome)
    assert outcome.rejections[0].device == "odd"
    assert (reason.code, reason.where) == (Code.TYPE_CONFLICT, "/x")
    assert "float" in reason.expected
    assert "string" in reason.got
    assert kept(send(made, "c", x=3)) == [("c", 3.0)]


def test_an_odd_number_bars_no_strings() -> None:
    """The same the other way round."""
    made = keeping()
    send(made, "odd", x=0)
    send(made, "a", x="open")
    outcome = send(made, "b", x="shut")
    assert sorted(kept(outcome)) == [("a", "open"), ("b", "shut")]
    assert the_reason(outcome).code is Code.TYPE_CONFLICT


def test_many_values_of_one_device_make_a_type_certain() -> None:
    """A device that is alone is believed after several values."""
    made = keeping()
    for i in range(VALUES - 1):
        assert not send(made, "a", i, x="open").readings
    found = kept(send(made, "a", VALUES, x="open"))
    for _ in range(VALUES):
        outcome = Outcome()
        made.decide(NOW, outcome)
        found += kept(outcome)
    assert found == [("a", "open")] * VALUES


def test_a_number_alone_is_soon_certain() -> None:
    """A number that nothing contradicts waits a few seconds."""
    made = keeping()
    assert not send(made, "a", x=1).readings
    outcome = Outcome()
    made.decide(NOW + NUMBER_WAITS_NS - 1, outcome)
    assert not outcome.readings
    made.decide(NOW + NUMBER_WAITS_NS, outcome)
    assert kept(outcome) == [("a", 1.0)]


def test_a_string_that_nothing_confirms_is_rejected() -> None:
    """It fixes no type, so that numbers may still come; a replay of it settles the type."""
    made = keeping()
    send(made, "a", x="n/a")
    outcome = Outcome()
    made.decide(NOW + OTHER_WAITS_NS, outcome)
    reason = the_reason(outcome)
    assert (reason.code, reason.where) == (Code.UNKNOWN_FIELD, "/x")
    assert "replay" in reason.hint
    send(made, "b", OTHER_WAITS_NS, x=1)
    assert sorted(kept(send(made, "c", OTHER_WAITS_NS, x=2))) == [("b", 1.0), ("c", 2.0)]
    again = keeping()
    assert again.evaluate(message('{"value": 1, "x": "n/a"}'), NOW).readings
    assert again.evaluate(message('{"value": 1, "x": 1}'), NOW).rejection


def test_waiting_messages_are_bounded() -> None:
    """A startup whose messages all wait has only so many on disk; further ones are decided at once."""
    made = keeping()
    outcomes = [send(made, "a", i, **{f"x{i}": "text"}) for i in range(MOST + 20)]
    assert sum(len(one.waiting) for one in outcomes) == MOST
    assert sum(one.count for outcome in outcomes for one in outcome.rejections) == 20


def test_startups_are_decided_in_turn() -> None:
    """However many startups' messages are due, only a few are decided at once, and each startup's turn comes."""
    names = [f"s{i}" for i in range(2 * STARTUPS_AT_ONCE)]
    rules = {name: {"climate": {**KEEPS["climate"], "topic": f"testbed/{name}/{{device}}/climate"}} for name in names}
    made = config(*(startup(name, rules[name]) for name in names))
    one = Pipeline(made, unused(made.startups))
    several = [
        message('{"value": 1, "x": 1}', f"testbed/{name}/d/climate") for name in names for _ in range(AT_ONCE + 1)
    ]
    one.waiting.written(outcome_of(one, batch(*several)).waiting)
    taken = []
    while not one.waiting.is_empty:
        outcome = Outcome()
        one.decide(NOW + NUMBER_WAITS_NS + NS, outcome)
        taken.append(sum(map(len, outcome.readings.values())))
    assert taken[:2] == [STARTUPS_AT_ONCE * AT_ONCE] * 2
    assert sum(taken) == len(several)


def test_an_array_of_two_types_is_decided_record_by_record() -> None:
    """Of one message the records of the type that others confirm are accepted."""
    made = keeping()
    records = json.dumps([{"value": 1, "x": 1}, {"value": 1, "x": "n/a"}])
    outcome = outcome_of(made, batch(message(records)))
    made.waiting.written(outcome.waiting)
    outcome = send(made, "b", x=2)
    assert sorted(kept(outcome)) == [("b", 2.0), ("th-1", 1.0)]
    assert outcome.rejections[0].records == (1,)
    assert the_reason(outcome).where == "/1/x"


def test_messages_wait_again_after_a_restart() -> None:
    """What an earlier run left undecided counts again, and is decided as if nothing had happened."""
    before = keeping()
    left = send(before, "a", x="open").waiting
    made = keeping()
    made.resume(left)
    assert sorted(kept(send(made, "b", x="shut"))) == [("a", "open"), ("b", "shut")]


def test_messages_of_a_rule_that_is_gone_do_not_wait_for_ever() -> None:
    """After a change of the rules, what waited is judged by those that there are now."""
    before = keeping()
    left = send(before, "a", x="open").waiting
    made = Pipeline(config(startup("acme")), before.meters)
    made.resume(left)
    outcome = Outcome()
    made.decide(NOW, outcome)
    assert the_reason(outcome).code is Code.UNKNOWN_FIELD


def test_what_waits_uses_the_next_time() -> None:
    """Readings without a time of their own get different ones, waiting or not."""
    made = keeping()
    outcome = outcome_of(made, batch(message('{"value": 1, "x": "a"}'), message(), message('{"value": 1, "x": "b"}')))
    made.waiting.written(outcome.waiting)
    assert [one.stamp_ns for one in outcome.waiting] == [NOW, NOW + 2]
    assert [one.time_ns for one in outcome.readings["acme"]] == [NOW + 1]


@pytest.mark.parametrize(("first", "then"), [("int", "float"), ("float", "string"), ("bool", "int")])
def test_a_rule_that_changes_a_type_accepts_nothing_of_the_field(first: str, then: str) -> None:
    """Records with the field are rejected before the store sees them, on both paths; the others are not."""

    def rules(kind: str) -> dict[str, Any]:
        fields = {"value": {"type": "float", "required": False}, "x": {"type": kind, "required": False}}
        return {"climate": {"topic": "testbed/acme/{device}/climate", "fields": fields}}

    values = {"int": "1", "float": "1.5", "bool": "true", "string": '"text"'}

    types = FieldTypes()
    made = config(startup("acme", rules(first)))
    before = Pipeline(made, unused(made.startups), types=types)
    assert outcome_of(before, batch(message(f'{{"x": {values[first]}}}'))).readings
    changed = config(startup("acme", rules(then)))
    after = Pipeline(changed, unused(changed.startups), before)
    for _ in range(2):
        outcome = outcome_of(after, batch(message(f'{{"x": {values[then]}}}'), message('{"value": 2}')))
        assert [one.fields for one in outcome.readings["acme"]] == [{"value": 2.0}]
        reason = the_reason(outcome)
        assert (reason.code, reason.where) == (Code.TYPE_CONFLICT, "/x")
        assert f"type {first}" in reason.expected
        assert f"type {then}" in reason.got


def test_integers_widen() -> None:
    """A field that has floats and is now declared an integer is written as a float, on both paths."""
    rules = {"climate": {"topic": "testbed/acme/{device}/climate", "fields": {"value": {"type": "float"}}}}

    made = config(startup("acme", rules))
    before = Pipeline(made, unused(made.startups))
    outcome_of(before, batch(message('{"value": 1.5}')))
    rules["climate"]["fields"] = {"value": {"type": "int"}}
    changed = config(startup("acme", rules))
    after = Pipeline(changed, before.meters, before)
    outcome = outcome_of(after, batch(message('{"value": 2}'), message('{"value": 3}')))
    assert outcome.lines["acme"] == [
        f"climate,device=th-1 value=2.0 {NOW + 1}",
        f"climate,device=th-1 value=3.0 {NOW + 2}",
    ]


def test_a_declared_field_is_locked_when_it_is_first_sent() -> None:
    """Optional fields are locked by the first reading that has them, on a known series too."""
    fields = {"value": {"type": "float"}, "count": {"type": "int", "required": False}}
    made = config(startup("acme", {"climate": {"topic": "testbed/acme/{device}/climate", "fields": fields}}))

    one = Pipeline(made, unused(made.startups))
    for payload, new in (('{"value": 1}', {"value"}), ('{"value": 1}', set()), ('{"value": 1, "count": 2}', {"count"})):
        outcome = outcome_of(one, batch(message(payload)))
        one.take_new(NOW, outcome)
        assert {lock.field for lock in outcome.types} == new


def test_a_message_that_waits_is_not_missing() -> None:
    """Its sequence number has arrived, and is no late one when the message is decided."""
    rules = {"climate": {**KEEPS["climate"], "fields": {"n": {"type": "int"}}, "seq": "/n"}}
    made = config(startup("acme", rules))
    one = Pipeline(made, unused(made.startups))
    numbers, sequences = Numbers(made, one.route), Sequences()
    kept = []
    for payload in ('{"n": 1}', '{"n": 2, "x": 1}', '{"n": 3}', '{"n": 4, "x": "odd"}'):
        outcome = outcome_of(one, batch(message(payload)))
        one.waiting.written(outcome.waiting)
        kept += sequences.rows(numbers.observed(outcome, sequences))
    outcome = Outcome()
    one.decide(NOW + OTHER_WAITS_NS + NS, outcome)
    assert len(outcome.decided) == 2
    kept += sequences.rows(numbers.observed(outcome, sequences))
    found = Sequence(**json.loads(kept[-1][3])).as_json()
    assert {name: found[name] for name in ("last", "received", "missing", "late", "repeated", "rejected")} == {
        "last": 4,
        "received": 4,
        "missing": 0,
        "late": 0,
        "repeated": 0,
        "rejected": 1,
    }
