"""Records against a rule: what is accepted, as which values."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Mapping
from typing import Any

import pytest

from gateway.model import Code, FieldValue, Reason
from gateway.rules.field_types import MeasurementTypes
from gateway.rules.finishing import Values, tag_text
from gateway.rules.validator import MAX_KEPT, Validator
from gateway.timestamps import NS
from tests.builders import NOW, rule


def values(validator: Validator, record: Any) -> Values:
    found = validator.explain(record, NOW)
    assert isinstance(found, Values), found
    fast = validator.validate(jsonlib.loads(jsonlib.dumps(record)), NOW)
    assert fast == found
    return found


def fields(validator: Validator, record: Any) -> Mapping[str, FieldValue]:
    return values(validator, record).fields


def reasons(validator: Validator, record: Any, at: str = "") -> list[Reason]:
    found = validator.explain(record, NOW, at)
    assert isinstance(found, list), found
    assert found
    assert validator.validate(record, NOW) is None
    return found


def test_values_by_type() -> None:
    """Each type of field arrives as its own Python type; an integer is a valid float."""
    kinds = {"a": {"type": "float"}, "b": {"type": "int"}, "c": {"type": "bool"}, "d": {"type": "string"}}
    found = fields(Validator(rule(kinds)), {"a": 5, "b": 5, "c": True, "d": "5"})
    assert [(name, type(value), value) for name, value in found.items()] == [
        ("a", float, 5.0),
        ("b", int, 5),
        ("c", bool, True),
        ("d", str, "5"),
    ]


@pytest.mark.parametrize("value", [(1 << 63) - 1, -(1 << 63), 0])
def test_integers_of_64_bits(value: int) -> None:
    """Integers keep every bit up to the bounds of 64."""
    assert fields(Validator(rule({"v": {"type": "int"}})), {"v": value}) == {"v": value}


@pytest.mark.parametrize(
    ("bounds", "good", "bad"),
    [
        ({"min": 0, "max": 100}, [0, 100], [-1, 101]),
        ({"min": 0.5, "max": 10.7}, [1, 10], [0, 11]),
        ({"min": -10.7, "max": -0.5}, [-10, -1], [-11, 0]),
        ({"min": -1e30, "max": 1e30}, [(1 << 63) - 1], [1 << 63]),
    ],
)
def test_range_of_integers(bounds: dict[str, float], good: list[int], bad: list[int]) -> None:
    """Bounds of integers are met exactly, even if they are fractions themselves."""
    validator = Validator(rule({"v": {"type": "int", **bounds}}))
    for value in good:
        assert fields(validator, {"v": value}) == {"v": value}
    for value in bad:
        assert reasons(validator, {"v": value})[0].code is Code.OUT_OF_RANGE


@pytest.mark.parametrize("record", [{"v": 1}, {"v": 1, "w": None}])
def test_optional_fields(record: Any) -> None:
    """An optional field may be absent or null, and is left out then."""
    validator = Validator(rule({"v": {"type": "float"}, "w": {"type": "float", "required": False}}))
    assert fields(validator, record) == {"v": 1.0}


NESTED = {
    "v": {"type": "float", "from": "/meter/0/volt"},
    "w": {"type": "float", "from": "/more/w", "required": False},
}


@pytest.mark.parametrize(
    "record",
    [
        {"meter": [{"volt": 1}, {"volt": 2}], "more": {"w": 3, "x": 4}},
        {"meter": [{"volt": 1}]},
        {"meter": [{"volt": 1}], "more": {}},
        {"meter": [{"volt": 1}], "more": None},
        {"meter": [{"volt": 1}], "more": {"w": None}},
    ],
)
def test_nested_members(record: Any) -> None:
    """Pointers pick from objects and arrays; the parent of what is optional may be empty."""
    more = record.get("more") or {}
    expected = {"v": 1.0} | ({"w": 3.0} if more.get("w") else {})
    assert fields(Validator(rule(NESTED)), record) == expected


def test_two_fields_of_one_member() -> None:
    """One member may be two fields, and a tag as well."""
    validator = Validator(
        rule({"v": {"type": "float", "from": "/x"}, "w": {"type": "int", "from": "/x"}}, tags={"t": "/x"})
    )
    assert values(validator, {"x": 3}) == Values(None, {"v": 3.0, "w": 3}, {"t": "3"})


@pytest.mark.parametrize(
    ("unit", "value", "time_ns"),
    [
        ("s", NOW // NS, NOW),
        ("s", NOW / NS + 0.5, NOW + NS // 2),
        ("ms", NOW // 1_000_000, NOW),
        ("us", NOW // 1000, NOW),
        ("ns", NOW + 1, NOW + 1),
        ("rfc3339", "2026-11-18T11:06:40Z", NOW),
    ],
)
def test_times(unit: str, value: Any, time_ns: int) -> None:
    """A record's time is read in the unit of its rule."""
    validator = Validator(rule(time={"from": "/at", "unit": unit}))
    assert values(validator, {"value": 1, "at": value}).time_ns == time_ns


def test_times_at_their_bounds() -> None:
    """A time may be exactly as old, and exactly as far ahead, as the rule says."""
    validator = Validator(rule(time={"from": "/at", "unit": "ns", "max_age": "1m", "max_future": "1s"}))
    for at in (NOW - 60 * NS, NOW + NS):
        assert values(validator, {"value": 1, "at": at}).time_ns == at
    for at in (NOW - 60 * NS - 1, NOW + NS + 1):
        assert reasons(validator, {"value": 1, "at": at})[0].code is Code.BAD_TIME


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("1.2", "1.2"),
        (7, "7"),
        (1.5, "1.5"),
        (True, "true"),
        (False, "false"),
        (None, ""),
        ("", ""),
        ("é=, ü", "é=, ü"),
    ],
)
def test_tags(value: Any, text: str) -> None:
    """Tags are texts; numbers and booleans become some; of null and an empty text there is no tag."""
    validator = Validator(rule(tags={"firmware": "/fw"}))
    assert values(validator, {"value": 1, "fw": value}).tags == ({"firmware": text} if text else {})


def test_tag_that_is_absent() -> None:
    """A tag may be absent, and a nested one's parent empty."""
    validator = Validator(rule(tags={"firmware": "/info/fw"}))
    for record in ({"value": 1}, {"value": 1, "info": {}}):
        assert values(validator, record).tags == {}


@pytest.mark.parametrize(
    "value", [[], {}, "a\nb", "a\\", "x" * 513, "\u2028", float("nan"), float("inf"), 10**600, b"x"]
)
def test_no_tags(value: object) -> None:
    """What line protocol cannot carry, or is no single value, is no tag."""
    assert tag_text(value) is None


def test_unknown_members_dropped() -> None:
    """`unknown: drop` passes over members that no rule names."""
    assert fields(Validator(rule(unknown="drop")), {"value": 1, "more": [1, 2]}) == {"value": 1.0}


def test_unknown_members_kept() -> None:
    """`unknown: keep` makes fields of them: numbers as floats, texts, booleans; null is left out."""
    record = {"value": 1, "rssi": -70, "snr": 1.5, "mode": "eco", "on": True, "none": None}
    assert fields(Validator(rule(unknown="keep")), record) == {
        "value": 1.0,
        "rssi": -70.0,
        "snr": 1.5,
        "mode": "eco",
        "on": True,
    }


def test_kept_member_keeps_its_type() -> None:
    """A kept member has the type of its field; a value of another type is rejected with both types and the device."""
    types = MeasurementTypes("acme", "climate", [])
    validator = Validator(rule(unknown="keep"), types)
    types.lock("rssi", "float", "th-9")
    assert fields(validator, {"value": 1, "rssi": -70}) == {"value": 1.0, "rssi": -70.0}
    (reason,) = reasons(validator, {"value": 1, "rssi": "strong"})
    assert (reason.code, reason.where) == (Code.TYPE_CONFLICT, "/rssi")
    assert "type float" in reason.expected
    assert "'th-9'" in reason.expected
    assert reason.got == '"strong", of type string'
    assert "gateway types" in reason.hint


def test_kept_member_of_an_integer_field() -> None:
    """Where a field has the type int, as a rule once named it, a kept integer is one, and a fraction is rejected."""
    types = MeasurementTypes("acme", "climate", [])
    validator = Validator(rule(unknown="keep"), types)
    types.lock("count", "int")
    kept = fields(validator, {"value": 1, "count": 3})["count"]
    assert (kept, type(kept)) == (3, int)
    (reason,) = reasons(validator, {"value": 1, "count": 3.5})
    assert (reason.code, reason.where) == (Code.TYPE_CONFLICT, "/count")


def test_kept_members_are_bounded() -> None:
    """A startup that sends new members for ever is stopped; those that are known go on."""
    types = MeasurementTypes("acme", "climate", [])
    validator = Validator(rule(unknown="keep"), types)
    types.lock("value", "float")
    most = {f"m{i}": 1 for i in range(MAX_KEPT)}
    assert len(fields(validator, {"value": 1, **most})) == MAX_KEPT + 1
    (reason,) = reasons(validator, {"value": 1, **most, "another": 1})
    assert reason.where == "/another"
    for name in most:
        types.lock(name, "float")
    assert len(fields(validator, {"value": 1, **most})) == MAX_KEPT + 1
    (reason,) = reasons(validator, {"value": 1, "m0": 2, "another": 1})
    assert reason.where == "/another"
    assert reason.expected.startswith(f"at most {MAX_KEPT} members")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("time", 1),
        ("device", "x"),
        ("value2", {}),
        ("value2", [1]),
        ("no name", 1),
        ("_measurement", 1),
        ("ünïcode", 1),
        ("x" * 64, 1),
        ("", 1),
        ("nan", float("nan")),
        ("huge", 10**40),
        ("text", "x" * 65_536),
        ("text", "a\0b"),
    ],
)
def test_members_that_cannot_be_kept(name: str, value: Any) -> None:
    """A member that cannot be a field, or whose name is taken, is rejected with its place."""
    (reason,) = reasons(Validator(rule(unknown="keep")), {"value": 1, name: value})
    assert (reason.code, reason.where) == (Code.UNKNOWN_FIELD, f"/{name}")


def test_no_field_at_all() -> None:
    """A record of optional fields only must have one of them."""
    validator = Validator(rule({"v": {"type": "float", "required": False}, "w": {"type": "int", "required": False}}))
    (reason,) = reasons(validator, {"v": None})
    assert reason == Reason(Code.EMPTY, "payload", "at least one of the fields v, w", "none of them")
    assert reasons(validator, {}, "/2")[0].where == "/2"
