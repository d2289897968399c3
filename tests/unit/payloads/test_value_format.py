"""A payload that is one number, boolean or string: what it is taken for, and why it is rejected."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import TopicRule, load
from gateway.errors import ConfigInvalid
from gateway.ingest.outcome import Evaluation, Outcome
from gateway.model import Code, Reason, Rejection
from gateway.rules.example import example
from gateway.rules.reader import Reader
from tests.builders import NOW, STARTUP, batch, message, outcome_of, pipeline, rule, startup, write_config

TOPIC = "testbed/acme/th-1/door"


def of(kind: str, **settings: Any) -> TopicRule:
    return rule({"value": {"type": kind, **settings}}, payload="value")


def read(kind: str, payload: bytes | str, **settings: Any) -> Any:
    """What the fast decoder makes of a payload, which the full path must confirm; else the reasons."""
    reader = Reader(of(kind, **settings))
    raw = payload.encode() if isinstance(payload, str) else payload
    found = reader.explain(raw, NOW)
    good = reader.read_good(raw, NOW)
    assert (good is None) == (isinstance(found, Reason) or isinstance(found[0], list))
    if isinstance(found, Reason):
        return [found]
    (one,) = found
    if isinstance(one, list):
        return one
    assert repr(good) == repr([one])
    return one.fields["value"]


def reason(kind: str, payload: bytes | str, **settings: Any) -> Reason:
    (found,) = read(kind, payload, **settings)
    assert isinstance(found, Reason)
    return found


@pytest.mark.parametrize(
    ("kind", "payload", "value"),
    [
        ("float", "21.5", 21.5),
        ("float", "5", 5.0),
        ("float", "-0.0", -0.0),
        ("float", "-1.5e-3", -0.0015),
        ("float", "2E+2", 200.0),
        ("float", "1" * 300, float("1" * 300)),
        ("int", "5", 5),
        ("int", "-9223372036854775808", -(1 << 63)),
        ("int", "0", 0),
        ("bool", "true", True),
        ("bool", "false", False),
        ("string", "open", "open"),
        ("string", "open the door", "open the door"),
        ("string", "é", "é"),
        ("string", "ON", "ON"),
        ("string", "21.5", "21.5"),
        ("string", "1.10", "1.10"),
        ("string", "true", "true"),
        ("string", "null", "null"),
        ("string", "NaN", "NaN"),
        ("string", "007", "007"),
        ("string", "0x1F", "0x1F"),
        ("string", "[1]", "[1]"),
        ("string", '"open"', "open"),
        ("string", '"21.5"', "21.5"),
        ("string", r'"a \"b\" \u00e9"', 'a "b" é'),
        ("string", '" a "', " a "),
        ("string", '""', ""),
    ],
)
def test_values(kind: str, payload: str, value: object) -> None:
    """A number, boolean or string is taken for what its field is; white space around it does not count."""
    for sent in (payload, f" \t{payload}\r\n"):
        found = read(kind, sent)
        assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize(
    "payload", ["+5", "007", "-01", ".5", "5.", "0x1F", "1_000", "1,5", "21.5 C", "- 5", "٥", "1e", "True"]
)
def test_texts_that_only_look_like_numbers(payload: str) -> None:
    """What JSON does not take for a number is a string, and rejected for a field that is a number."""
    assert reason("float", payload) == Reason(
        Code.WRONG_TYPE, "/value", "a number", json.dumps(payload, ensure_ascii=False)
    )
    assert read("string", payload) == payload


@pytest.mark.parametrize(
    ("kind", "payload", "code", "expected", "got"),
    [
        ("float", "hot", Code.WRONG_TYPE, "a number from -40 to 125 (celsius)", '"hot"'),
        ("float", '"21.5"', Code.WRONG_TYPE, "a number from -40 to 125 (celsius)", '"21.5"'),
        ("float", "true", Code.WRONG_TYPE, "a number from -40 to 125 (celsius)", "true"),
        ("float", '{"t": 21.5}', Code.WRONG_TYPE, "a number from -40 to 125 (celsius)", r'"{\"t\": 21.5}"'),
        ("float", "null", Code.WRONG_TYPE, "a number from -40 to 125 (celsius)", '"null"'),
        ("float", "126", Code.OUT_OF_RANGE, "a number from -40 to 125 (celsius)", "126"),
        ("float", "NaN", Code.NOT_FINITE, "a number from -40 to 125 (celsius)", "NaN"),
        ("float", "-Infinity", Code.NOT_FINITE, "a number from -40 to 125 (celsius)", "-Infinity"),
        ("float", "1e400", Code.NOT_FINITE, "a number from -40 to 125 (celsius)", "Infinity"),
        ("int", "5.0", Code.WRONG_TYPE, "an integer, in 64 bits", "5.0"),
        ("int", "9223372036854775808", Code.OUT_OF_RANGE, "an integer, in 64 bits", "9223372036854775808"),
        ("bool", "1", Code.WRONG_TYPE, "true or false", "1"),
        ("bool", "ON", Code.WRONG_TYPE, "true or false", '"ON"'),
        ("bool", "OFF", Code.WRONG_TYPE, "true or false", '"OFF"'),
        ("bool", "True", Code.WRONG_TYPE, "true or false", '"True"'),
        ("string", r'"a\u0000"', Code.BAD_TEXT, "a string of at most 65535 characters, without NUL", r'"a\u0000"'),
    ],
)
def test_wrong_values(kind: str, payload: str, code: Code, expected: str, got: str) -> None:
    """A value of another type, or out of its range, is rejected as a member of a JSON object would be."""
    settings = {"min": -40, "max": 125, "unit": "celsius"} if kind == "float" else {}
    assert reason(kind, payload, **settings) == Reason(code, "/value", expected, got)


@pytest.mark.parametrize("kind", ["float", "int", "bool", "string"])
@pytest.mark.parametrize(
    ("payload", "code", "expected", "got"),
    [
        (b"", Code.EMPTY, "a number, a boolean or a string", "an empty payload"),
        (b" \r\n", Code.EMPTY, "a number, a boolean or a string", r"3 bytes, ' \r\n'"),
        (b"21.5\0", Code.BAD_TEXT, "a string without NUL", r"5 bytes, '21.5\x00'"),
        (b"\xff\xfe5", Code.BAD_TEXT, "a number, a boolean or a string, in UTF-8", r"3 bytes, '\\xff\\xfe5'"),
        (b'"open', Code.BAD_TEXT, "a number, a boolean or a string, in UTF-8", "5 bytes, '\"open'"),
        (b'"open" x', Code.BAD_TEXT, "a number, a boolean or a string, in UTF-8", "8 bytes, '\"open\" x'"),
    ],
)
def test_payloads_that_are_no_value(kind: str, payload: bytes, code: Code, expected: str, got: str) -> None:
    """Nothing, NUL, what is not UTF-8, and quotes that do not match are rejected for every type, with what was sent."""
    found = reason(kind, payload)
    assert (found.code, found.where, found.expected, found.got) == (code, "payload", expected, got)
    assert found.hint or code is Code.EMPTY


@pytest.mark.parametrize("digits", [308, 309, 4299, 4300, 4301, 9000])
def test_numbers_without_end(digits: int) -> None:
    """Integers longer than any type, and than Python reads, are rejected with a reason."""
    for sign in ("", "-"):
        assert reason("int", sign + "9" * digits).code in (Code.OUT_OF_RANGE, Code.BAD_TEXT)
        found = read("float", sign + "9" * digits)
        assert (isinstance(found, float) and math.isfinite(found)) or found[0].code in (
            Code.NOT_FINITE,
            Code.WRONG_TYPE,
            Code.BAD_TEXT,
        )
        assert read("string", sign + "9" * digits) == sign + "9" * digits


@pytest.mark.parametrize(("kind", "payload"), [("float", "-12.5e+10"), ("bool", "false"), ("string", '"a \\u00e9 é"')])
def test_truncated_at_every_byte(kind: str, payload: str) -> None:
    """A payload that is cut anywhere is a shorter value or rejected with a reason; a string in quotes is rejected."""
    whole = payload.encode()
    for end in range(len(whole)):
        found = read(kind, whole[:end])
        if isinstance(found, list):
            assert found[0].expected
            assert found[0].got
        else:
            assert kind == "float"
            assert float(whole[:end]) == found


@given(value=st.integers(-(1 << 63), (1 << 63) - 1) | st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_are_those_of_json(value: float) -> None:
    """Every number that JSON can write is the same number here."""
    assert read("float", json.dumps(value)) == float(value)


@given(text=st.text(min_size=1, max_size=30))
def test_strings_are_taken_as_they_stand(text: str) -> None:
    """A text without quotes is itself but for white space around it, and in JSON's quotes it is exactly itself."""
    bare = text.strip(" \t\r\n")
    if bare and "\0" not in text:
        assert read("string", json.dumps(text)) == text
        assert read("string", json.dumps(text, ensure_ascii=False)) == text
        if bare[0] != '"':
            assert read("string", text) == bare


# ------------------------------------------------------------------ through the pipeline


def door(**settings: Any) -> Any:
    fields = {"open": {"from": "/value", "type": "bool"}}
    return startup("acme", {"door": {"topic": "testbed/acme/{device}/door", "payload": "value", "fields": fields}})


def test_messages() -> None:
    """Values become readings of the field that the rule names, on the fast path as on the full path."""
    made = pipeline(door())
    outcomes: list[Outcome] = [outcome_of(made, batch(message(payload, TOPIC))) for payload in ("true", "false", "ON")]
    assert [one.lines.get("acme") for one in outcomes] == [
        [f"door,device=th-1 open=true {NOW}"],
        [f"door,device=th-1 open=false {NOW + 1}"],
        None,
    ]
    (rejection,) = outcomes[2].rejections
    assert isinstance(rejection, Rejection)
    assert [str(one) for one in rejection.reasons] == ['/value: expected true or false; got "ON"']
    evaluation: Evaluation = made.evaluate(message("true", TOPIC), NOW)
    assert [one.fields for one in evaluation.readings] == [{"open": True}]


@pytest.mark.parametrize("kind", ["float", "int", "bool", "string"])
def test_the_example_is_accepted(kind: str) -> None:
    """The example message of such a rule is a lone value that the rule takes."""
    shown = example(of(kind), NOW)
    assert shown is not None
    assert not shown.payload.startswith(("{", '"'))
    assert not isinstance(read(kind, shown.payload), list)


# ------------------------------------------------------------------ rules that cannot be


@pytest.mark.parametrize(
    ("rest", "line", "where", "expected", "got"),
    [
        ("fields:\n      t: {type: float}\n", 7, "fields.t", "a field named value or `from: /value`", "'/t'"),
        (
            "fields:\n      t: {type: float, from: /value/t}\n",
            7,
            "fields.t.from",
            "a field named value or `from: /value`",
            "'/value/t'",
        ),
        (
            "fields:\n      value: {type: float}\n      raw: {type: string, from: /value}\n",
            8,
            "fields.raw.from",
            "only one field",
            "'/value'",
        ),
        ("fields: {value: {type: float}}\n    tags:\n      fw: /fw\n", 8, "tags.fw", "no tag from a payload", "'/fw'"),
        (
            "fields: {value: {type: float}}\n    time: {from: /ts, unit: s}\n",
            7,
            "time.from",
            "no time from a payload",
            "'/ts'",
        ),
    ],
)
def test_rules_that_pick_something_else(
    tmp_path: Path, rest: str, line: int, where: str, expected: str, got: str
) -> None:
    """A rule that picks other members, tags or a time from a lone value is reported on its line."""
    head = STARTUP.partition("    fields:")[0] + f"    payload: value\n    {rest}"
    with pytest.raises(ConfigInvalid) as error:
        load(write_config(tmp_path, acme=head))
    (problem,) = error.value.problems
    assert (problem.line, problem.where, problem.got) == (line, f"topics.climate.{where}", got)
    assert problem.expected.startswith(expected)
