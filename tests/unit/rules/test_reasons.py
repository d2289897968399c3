"""Every reason against a record: its code, its place, what was expected, what came, and the hint."""

from __future__ import annotations

import json as jsonlib
from typing import Any

import pytest

from gateway.model import Code, Reason
from gateway.rules.validator import Validator
from gateway.timestamps import NS
from tests.builders import NOW, rule

TIME = "milliseconds since 1970, at most 30d old and 5m ahead"
CLIMATE = Validator(
    rule(
        {
            "temperature": {"from": "/t", "type": "float", "unit": "celsius", "min": -40, "max": 125},
            "count": {"type": "int", "min": 0, "required": False},
            "open": {"type": "bool", "required": False},
            "note": {"type": "string", "required": False},
            "volts": {"from": "/meter/volts", "type": "float", "max": 5, "required": False},
        },
        time={"from": "/ts", "unit": "ms"},
        tags={"firmware": "/fw"},
    )
)
GOOD = {"t": 20.5, "ts": NOW // 1_000_000}


def reasons(record: Any, validator: Validator = CLIMATE, at: str = "") -> list[Reason]:
    found = validator.explain(record, NOW, at)
    assert isinstance(found, list), found
    return found


@pytest.mark.parametrize(
    ("change", "code", "where", "expected", "got"),
    [
        ({"t": None}, Code.WRONG_TYPE, "/t", "a number from -40 to 125 (celsius)", "null"),
        ({"t": "20"}, Code.WRONG_TYPE, "/t", "a number from -40 to 125 (celsius)", '"20"'),
        ({"t": True}, Code.WRONG_TYPE, "/t", "a number from -40 to 125 (celsius)", "true"),
        ({"t": [1]}, Code.WRONG_TYPE, "/t", "a number from -40 to 125 (celsius)", "[1]"),
        ({"t": 125.1}, Code.OUT_OF_RANGE, "/t", "a number from -40 to 125 (celsius)", "125.1"),
        ({"t": -41}, Code.OUT_OF_RANGE, "/t", "a number from -40 to 125 (celsius)", "-41"),
        ({"t": float("nan")}, Code.NOT_FINITE, "/t", "a number from -40 to 125 (celsius)", "NaN"),
        ({"t": float("-inf")}, Code.NOT_FINITE, "/t", "a number from -40 to 125 (celsius)", "-Infinity"),
        ({"count": 1.0}, Code.WRONG_TYPE, "/count", "an integer of at least 0, in 64 bits", "1.0"),
        ({"count": True}, Code.WRONG_TYPE, "/count", "an integer of at least 0, in 64 bits", "true"),
        ({"count": -1}, Code.OUT_OF_RANGE, "/count", "an integer of at least 0, in 64 bits", "-1"),
        ({"count": 1 << 63}, Code.OUT_OF_RANGE, "/count", "an integer of at least 0, in 64 bits", str(1 << 63)),
        ({"open": 1}, Code.WRONG_TYPE, "/open", "true or false", "1"),
        ({"open": "true"}, Code.WRONG_TYPE, "/open", "true or false", '"true"'),
        ({"note": 5}, Code.WRONG_TYPE, "/note", "a string of at most 65535 characters, without NUL", "5"),
        ({"note": "a\0"}, Code.BAD_TEXT, "/note", "a string of at most 65535 characters, without NUL", '"a\\u0000"'),
        ({"meter": {"volts": 6}}, Code.OUT_OF_RANGE, "/meter/volts", "a number of at most 5", "6"),
        ({"ts": "now"}, Code.WRONG_TYPE, "/ts", TIME, '"now"'),
        ({"ts": None}, Code.WRONG_TYPE, "/ts", TIME, "null"),
        ({"ts": True}, Code.WRONG_TYPE, "/ts", TIME, "true"),
        ({"ts": 10**400}, Code.WRONG_TYPE, "/ts", TIME, "1" + 58 * "0" + "…"),
    ],
)
def test_one_reason(change: dict[str, Any], code: Code, where: str, expected: str, got: str) -> None:
    """One thing wrong is one reason, that says all of it."""
    assert reasons({**GOOD, **change}) == [Reason(code, where, expected, got)]


def test_text_too_long() -> None:
    """A text beyond its bound is rejected, and shown shortened."""
    (reason,) = reasons({**GOOD, "note": "é" * 65_536})
    assert (reason.code, reason.where) == (Code.BAD_TEXT, "/note")
    assert len(reason.got) == 60
    assert reason.got.endswith("…")


def test_missing() -> None:
    """A field, a time and a nested member that are missing are reported as missing, not as unknown."""
    assert reasons({}) == [
        Reason(Code.MISSING, "/t", "a number from -40 to 125 (celsius)", "nothing"),
        Reason(Code.MISSING, "/ts", TIME, "nothing"),
    ]
    nested = Validator(rule({"v": {"type": "float", "from": "/meter/volts"}}))
    parents: list[Any] = [{}, 5, None, [1], "volts"]
    for record in [{}, *({"meter": parent} for parent in parents)]:
        assert reasons(record, nested) == [Reason(Code.MISSING, "/meter/volts", "a number", "nothing")]


def test_missing_in_an_array() -> None:
    """An array that is too short, or a string where an array should be, lacks the member."""
    nested = Validator(rule(time={"from": "/x/0", "unit": "rfc3339"}))
    parents: list[Any] = [[], {}, "2026", 5]
    for record in [{}, *({"x": parent} for parent in parents)]:
        (reason,) = reasons({"value": 1, **record}, nested)
        assert (reason.code, reason.where) == (Code.MISSING, "/x/0")


def test_unknown_member() -> None:
    """A member that no rule names is reported with those that there may be."""
    assert reasons({**GOOD, "temp/C": {"x": 1}}) == [
        Reason(
            Code.UNKNOWN_FIELD,
            "/temp~1C",
            "only the members count, fw, meter, note, open, t, ts",
            '{"x": 1}',
            "the rule of this topic says `unknown: reject`",
        )
    ]


@pytest.mark.parametrize("value", [[1], {"a": 1}, "line\nbreak", "backslash\\"])
def test_bad_tag(value: Any) -> None:
    """A tag that cannot be written is reported with its place."""
    (reason,) = reasons({**GOOD, "fw": value})
    assert (reason.code, reason.where, reason.got) == (Code.BAD_TAG, "/fw", jsonlib.dumps(value))


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (NOW // NS, "it looks like seconds"),
        (NOW // 1000, "it looks like microseconds"),
        (NOW, "it looks like nanoseconds"),
        (0, "that is 1970-01-01T00:00:00Z; is the device's clock set?"),
        (NOW // 1_000_000 + 3_600_000, "that is 2026-11-18T12:06:40Z; is the device's clock set?"),
        (NOW // 1_000_000 - 31 * 86_400_000, "that is 2026-10-18T11:06:40Z; is the device's clock set?"),
        (1e300, "is the device's clock set?"),
    ],
)
def test_hints_of_numbers(value: float, hint: str) -> None:
    """A time out of bounds is reported with what the device has probably done."""
    (reason,) = reasons({**GOOD, "ts": value})
    assert (reason.code, reason.where, reason.expected, reason.hint) == (Code.BAD_TIME, "/ts", TIME, hint)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("2026-11-18", "RFC 3339 has a date, a time and an offset"),
        ("2026-11-18T11:06:40", "RFC 3339 has a date, a time and an offset"),
        ("2001-01-01T00:00:00Z", "is the device's clock set?"),
    ],
)
def test_hints_of_strings(value: str, hint: str) -> None:
    """A string that is not a time, or a time out of bounds, is reported with what to look at."""
    validator = Validator(rule(time={"from": "/at", "unit": "rfc3339", "max_age": "90m", "max_future": "1.5s"}))
    (reason,) = reasons({"value": 1, "at": value}, validator)
    assert (reason.code, reason.hint) == (Code.BAD_TIME, hint)
    assert reason.expected == "an RFC 3339 time such as 2026-11-23T08:15:30Z, at most 90m old and 1.5s ahead"


@pytest.mark.parametrize("value", [1.5, "5", None, True])
def test_fine_units_take_integers_only(value: Any) -> None:
    """A fraction cannot carry µs or ns since 1970."""
    validator = Validator(rule(time={"from": "/at", "unit": "us"}))
    (reason,) = reasons({"value": 1, "at": value}, validator)
    assert (reason.code, reason.where) == (Code.WRONG_TYPE, "/at")


def test_integer_beyond_all_times() -> None:
    """An integer that no time can be is a bad time."""
    validator = Validator(rule(time={"from": "/at", "unit": "ns"}))
    (reason,) = reasons({"value": 1, "at": 10**400}, validator)
    assert (reason.code, reason.hint) == (Code.BAD_TIME, "is the device's clock set?")


def test_all_reasons_at_once() -> None:
    """Everything wrong with a record is reported together, each with its place in the array."""
    record = {"t": "hot", "count": 1.5, "ts": 5, "fw": [], "extra": 1, "meter": {"volts": 9}}
    found = reasons(record, at="/3")
    assert {(reason.where, reason.code) for reason in found} == {
        ("/3/t", Code.WRONG_TYPE),
        ("/3/count", Code.WRONG_TYPE),
        ("/3/ts", Code.BAD_TIME),
        ("/3/fw", Code.BAD_TAG),
        ("/3/extra", Code.UNKNOWN_FIELD),
        ("/3/meter/volts", Code.OUT_OF_RANGE),
    }


@pytest.mark.parametrize("record", [5, "text", None, True, [], [[1]]])
def test_no_object(record: Any) -> None:
    """A record that is not an object is reported as such, with its place."""
    assert reasons(record) == [Reason(Code.WRONG_TYPE, "payload", "a JSON object", jsonlib.dumps(record))]
    assert reasons(record, at="/7")[0].where == "/7"


def test_reason_reads_as_a_sentence() -> None:
    """A reason is written for people, and as JSON for programs; without a hint it has none."""
    reason = Reason(Code.OUT_OF_RANGE, "/t", "a number of at most 5", "6", "is it in volts?")
    assert str(reason) == "/t: expected a number of at most 5; got 6 (is it in volts?)"
    assert reason.as_json() == {
        "code": "out_of_range",
        "where": "/t",
        "expected": "a number of at most 5",
        "got": "6",
        "hint": "is it in volts?",
    }
    assert "hint" not in Reason(Code.EMPTY, "payload", "a", "b").as_json()
    assert str(Reason(Code.EMPTY, "payload", "a", "b")) == "payload: expected a; got b"
