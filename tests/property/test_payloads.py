"""Whatever bytes come: readings or reasons, never an exception; and both paths of validating agree."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import TopicRule
from gateway.ingest.pipeline import Pipeline, unused
from gateway.line_protocol import encode
from gateway.model import Reason
from gateway.rules.finishing import Values
from gateway.rules.reader import Reader
from gateway.rules.validator import Validator
from gateway.timestamps import NS
from tests.builders import NOW, batch, message, outcome_of, rule, samples

SAMPLES = samples()
PIPELINE = Pipeline(SAMPLES, unused(SAMPLES.startups))
RULES = {f"{one.slug}-{name}": one.topics[name] for one in SAMPLES.startups for name in one.topics}
TOPICS = {name: one.template.text.replace("{device}", "d-1").replace("{connector}", "1") for name, one in RULES.items()}
SECONDS = NOW // NS
GOOD: dict[str, Any] = {
    "acme-climate": {"ts": SECONDS * 1000, "t": 21.5, "humidity": 40.25, "battery": 3.7, "fw": "1.2é"},
    "acme-air": {"time": "2026-11-18T11:06:40Z", "co2": 415, "pm": {"2.5": 3.25}, "voc": 120, "more": [1, {"a": None}]},
    "greenbed-soil": [
        {"at": SECONDS - 60, "moisture": 30.5, "ph": 6.5, "ec": 1.5, "bed": "b2"},
        {"at": SECONDS, "moisture": 31, "ph": 6.25, "ec": 1.25, "battery": 3.6, "bed": 7},
    ],
    "greenbed-pump": {"on": True, "flow": 12.5, "mode": "drip", "rpm": 900, "valve": "open"},
    "voltwise-charging": {
        "t": SECONDS,
        "state": "charging",
        "locked": False,
        "meter": {"voltage": 230.1, "current": 16, "power": 3680.5, "energy": 1200},
    },
}
PAYLOADS = {name: json.dumps(payload, ensure_ascii=False).encode() for name, payload in GOOD.items()}
EXTRA = {
    "nested": rule(
        {"a": {"type": "float", "from": "/m/0/a"}, "b": {"type": "int", "from": "/n/b", "required": False, "min": 0.5}},
        tags={"tag": "/n/tag"},
        time={"from": "/t", "unit": "ns"},
    ),
    "bare": rule({"a": {"type": "bool", "required": False}, "b": {"type": "string", "from": "/", "required": False}}),
}
MOMENTS = itertools.count(NOW, NS // 10)
names = pytest.mark.parametrize("name", list(RULES))

words = st.sampled_from(
    ["t", "ts", "at", "humidity", "battery", "fw", "on", "flow", "meter", "a", "b", "m", "n", "tag"]
)
numbers = st.one_of(
    st.integers(),
    st.integers(-(1 << 65), 1 << 65),
    st.floats(),
    st.sampled_from([SECONDS, SECONDS * 1000, NOW, 10**400]),
)
plain = st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=8))
values = st.recursive(plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4))
records = st.dictionaries(st.one_of(words, st.text(max_size=4)), values, max_size=6)
documents = st.one_of(values, records, st.lists(records, max_size=4))


@st.composite
def mutated(draw: st.DrawFn, name: str) -> bytes:
    """A good payload of the rule with one to three of its members changed, taken away or added."""
    document = json.loads(PAYLOADS[name])
    for _ in range(draw(st.integers(1, 3))):
        record = draw(st.sampled_from(document)) if isinstance(document, list) else document
        inner = [record, *(value for value in record.values() if isinstance(value, dict))]
        where = draw(st.sampled_from(inner))
        key = draw(st.one_of(st.sampled_from(sorted(where) or ["x"]), words, st.text(max_size=3)))
        if draw(st.booleans()):
            where[key] = draw(values)
        else:
            where.pop(key, None)
    return json.dumps(document).encode()


def check(name: str, payload: bytes) -> None:
    """Readings, or a rejection with reasons, or both: and all records are accounted for."""
    result = PIPELINE.evaluate(message(payload, TOPICS[name]), NOW)
    assert result.readings or result.rejection
    assert [encode(reading) for reading in result.readings] == result.lines or not result.readings
    if result.rejection is not None:
        assert result.rejection.reasons
        assert all(reason.expected and reason.got and reason.where for reason in result.rejection.reasons)
        assert result.rejection.payload == payload


def fast_and_full_path(name: str, payload: bytes) -> None:
    """What `process` makes of a message of a known series is what `evaluate` makes of it: readings, lines, reasons."""
    now_ns = next(MOMENTS)
    outcome_of(PIPELINE, batch(message(PAYLOADS[name], TOPICS[name]), arrived_ns=now_ns))
    one = message(payload, TOPICS[name])
    outcome = outcome_of(PIPELINE, batch(one, arrived_ns=now_ns + 1000))
    whole = PIPELINE.evaluate(one, now_ns + 1000)
    assert repr([one for several in outcome.readings.values() for one in several]) == repr(list(whole.readings))
    assert [one for several in outcome.lines.values() for one in several] == list(whole.lines)
    assert outcome.rejections == ([] if whole.rejection is None else [whole.rejection])


def fast(rule: TopicRule, payload: bytes) -> list[Values] | None:
    """What the way of the good payloads makes of it; None where it leaves it to the other."""
    return Reader(rule).read_good(payload, NOW)


def slow(rule: TopicRule, payload: bytes) -> list[Values] | None:
    """What the way that gives reasons makes of it; None where it has some."""
    found = rule.format.records(payload, rule.context)
    if isinstance(found, Reason):
        return None
    validator = Validator(rule)
    explained = [validator.explain(one, NOW) for one in found.values]
    assert all(explained)
    good = [one for one in explained if isinstance(one, Values)]
    return good if len(good) == len(explained) else None


def agree(rule: TopicRule, payload: bytes) -> None:
    """Both ways accept the same payloads, with the very same values."""
    if rule.unknown == "keep":
        return  # it has the slow way only
    assert repr(fast(rule, payload)) == repr(slow(rule, payload))


@names
@given(payload=st.binary(max_size=60))
def test_any_bytes(name: str, payload: bytes) -> None:
    """Arbitrary bytes never crash the pipeline, and never vanish in it."""
    check(name, payload)


@names
@given(document=documents)
def test_any_json(name: str, document: Any) -> None:
    """Arbitrary JSON (with NaN and Infinity, as some devices write it) never crashes the pipeline."""
    check(name, json.dumps(document).encode())


@names
@given(data=st.data())
def test_nearly_good_json(name: str, data: st.DataObject) -> None:
    """A good payload with a few members changed is accepted or explained; both paths of validating agree on it."""
    payload = data.draw(mutated(name))
    check(name, payload)
    agree(RULES[name], payload)
    fast_and_full_path(name, payload)


@pytest.mark.parametrize("name", list(EXTRA))
@given(document=documents)
def test_both_ways_agree(name: str, document: Any) -> None:
    """The fast and the slow way agree on arbitrary JSON, for rules with nested, optional and doubled members."""
    agree(EXTRA[name], json.dumps(document).encode())


@names
def test_good_payload_is_accepted(name: str) -> None:
    """Each sample rule accepts its good payload, so that what the other tests cut and change begins good."""
    result = PIPELINE.evaluate(message(PAYLOADS[name], TOPICS[name]), NOW)
    assert result.rejection is None
    assert result.readings


@names
@pytest.mark.parametrize("digits", [308, 309, 4299, 4300, 4301, 9000])
def test_numbers_without_end(name: str, digits: int) -> None:
    """Numbers longer than any type, and than Python reads, are explained like anything else."""
    for number in ("1" * digits, "-" + "9" * digits, "0." + "1" * digits, "1" * digits + ".5", f"1e{digits}"):
        for key in ("t", "ts", "at", "fw", "bed", "on", "rpm", "co2"):
            check(name, f'{{"{key}": {number}}}'.encode())


@names
def test_truncated_at_every_byte(name: str) -> None:
    """A good payload that is cut anywhere is rejected with a reason."""
    payload = PAYLOADS[name]
    for end in range(len(payload)):
        result = PIPELINE.evaluate(message(payload[:end], TOPICS[name]), NOW)
        assert not result.readings
        assert result.rejection is not None
        assert result.rejection.reasons


@names
@given(at=st.integers(0, 400), byte=st.integers(0, 255))
def test_one_byte_changed(name: str, at: int, byte: int) -> None:
    """A good payload with any one byte changed is accepted or explained; both paths of validating agree on it."""
    payload = bytearray(PAYLOADS[name])
    payload[at % len(payload)] = byte
    check(name, bytes(payload))
    agree(RULES[name], bytes(payload))
    fast_and_full_path(name, bytes(payload))
