"""JSON payloads: one object or an array of them, validated in one pass or read as plain values."""

from __future__ import annotations

import pytest

from gateway.model import Code, Reason
from gateway.payloads import FORMATS, Records
from gateway.rules.validator import Validator
from tests.builders import rule

RULE = rule()
JSON, CONTEXT = FORMATS["json"], RULE.context
DECODER = JSON.decoder(Validator(RULE).one, Validator(RULE).many, CONTEXT)


@pytest.mark.parametrize(
    ("payload", "count"),
    [
        (b'{"value": 1}', 1),
        (b' \t\r\n{"value": 1}\n', 1),
        (b'[{"value": 1}]', 1),
        (b'\n [{"value": 1}, {"value": 2}]', 2),
    ],
)
def test_good_payloads(payload: bytes, count: int) -> None:
    """An object is one record, an array as many as it has; blanks around them do not matter."""
    assert len(DECODER.every(payload)) == count
    found = JSON.records(payload, CONTEXT)
    assert isinstance(found, Records)
    assert len(found.values) == count


@pytest.mark.parametrize("payload", [b"[]", b"", b"{", b'{"value": "1"}', b"[1]", b'[[{"value": 1}]]', b"null"])
def test_bad_payloads_do_not_pass(payload: bytes) -> None:
    """Anything that is not JSON, or against the schema, does not pass."""
    with pytest.raises(ValueError):
        DECODER.every(payload)
    with pytest.raises(ValueError):
        DECODER.one(payload)


def test_one_record() -> None:
    """An object is decoded by itself; an array is not one record, even if it holds only one."""
    assert DECODER.one(b'{"value": 1}') == {"value": 1.0}
    with pytest.raises(ValueError):
        DECODER.one(b'[{"value": 1}]')


@pytest.mark.parametrize(
    ("payload", "got"),
    [
        (b"", "an empty payload"),
        (b"{", "1 bytes, '{'"),
        (b"t=20.5;h=40", "11 bytes, 't=20.5;h=40'"),
        (b"\xff\xfe\x00", r"3 bytes, '\\xff\\xfe\x00'"),
        (b"x" * 100, f"100 bytes, '{'x' * 24}'…"),
        (b"[" * 500, f"500 bytes, '{'[' * 24}'…"),
        (b'{"a": 1} {"b": 2}', '17 bytes, \'{"a": 1} {"b": 2}\''),
        (b"\xef\xbb\xbf{}", r"5 bytes, '\ufeff{}'"),
        (b'{"a": "\\ud800"}', '15 bytes, \'{"a": "\\\\ud800"}\''),
        (b"{'a': 1}", "8 bytes, \"{'a': 1}\""),
    ],
)
def test_not_json(payload: bytes, got: str) -> None:
    """Invalid JSON is reported with its first bytes and the parser's word on where it goes wrong, if there are any."""
    found = JSON.records(payload, CONTEXT)
    assert isinstance(found, Reason)
    assert (found.code, found.where, found.expected) == (
        Code.NOT_JSON,
        "payload",
        "a JSON object or array of objects",
    )
    assert found.got == got
    assert bool(found.hint) == bool(payload)


def test_empty_array() -> None:
    """An array without a record is reported as empty."""
    assert JSON.records(b" [ ]", CONTEXT) == Reason(
        Code.EMPTY, "payload", "at least one object in the array", "an empty array"
    )


def test_place_of_a_record() -> None:
    """A record of an array stands at its number, an object is the payload itself."""
    array, lone = JSON.records(b'[{"value": 1}]', CONTEXT), JSON.records(b'{"value": 1}', CONTEXT)
    assert isinstance(array, Records)
    assert isinstance(lone, Records)
    assert (array.at.format(3), lone.at) == ("/3", "")


@pytest.mark.parametrize(("payload", "value"), [(b"5", 5), (b"null", None), (b'"a"', "a"), (b"NaN", None)])
def test_a_value_is_one_record(payload: bytes, value: object) -> None:
    """A lone value is one record, which the validator rejects with its reasons."""
    found = JSON.records(payload, CONTEXT)
    assert isinstance(found, Records)
    assert (len(found.values), found.at) == (1, "")
    assert found.values == [value] or payload == b"NaN"
