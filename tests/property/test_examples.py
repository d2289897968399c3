"""Whatever rule an operator writes: the example that people are shown for it is accepted."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.rules.example import MAX_INDEX, example
from gateway.timestamps import NS
from tests.builders import NOW, batch, message, outcome_of, pipeline, startup

MAX_INT = (1 << 63) - 1
TYPES = ("float", "int", "bool", "string")

members = st.text(max_size=3).map(lambda text: text.replace("~", "~0").replace("/", "~1"))
tokens = st.one_of(st.sampled_from(["a", "b", "0", "1"]), members, st.integers(0, 30).map(str))
pointers = st.lists(tokens, min_size=1, max_size=3).map(lambda several: "".join(f"/{token}" for token in several))
bounds = st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(-5, 5), st.floats(-0.01, 0.01))
moments = st.integers(NOW, NOW + 10 * NS)
units = st.sampled_from(["s", "ms", "us", "ns", "rfc3339"])
topics = st.sampled_from(["testbed/acme/{device}/m", "testbed/acme/{device}/{room}/m", "a b/{line}/{device}/it's"])
unknown = st.sampled_from(["reject", "drop", "keep"])


@st.composite
def fields(draw: st.DrawFn) -> dict[str, Any]:
    """A field of any type, range and place."""
    found: dict[str, Any] = {"type": draw(st.sampled_from(TYPES)), "required": draw(st.booleans())}
    if found["type"] in ("float", "int"):
        ends = sorted(draw(st.tuples(bounds, bounds)))
        found |= {name: end for name, end in zip(("min", "max"), ends, strict=True) if draw(st.booleans())}
    return found


def has_value(field: dict[str, Any]) -> bool:
    """Whether there is an integer of 64 bits in its range, if it is to be one."""
    lowest: int = max(-MAX_INT - 1, math.ceil(field.get("min", -MAX_INT - 1)))
    highest: int = min(MAX_INT, math.floor(field.get("max", MAX_INT)))
    return field["type"] != "int" or lowest <= highest


@st.composite
def rules(draw: st.DrawFn, are_apart: bool) -> dict[str, Any]:
    """A legal rule. With `are_apart` its fields, time and tags are in nobody's way, and each has a value."""
    field = fields().filter(has_value) if are_apart else fields()
    found: dict[str, Any] = {
        "topic": draw(topics),
        "unknown": draw(unknown),
        "fields": draw(st.dictionaries(st.sampled_from(["f", "g", "h", "i"]), field, min_size=1)),
        "tags": {},
    }

    def place(name: str) -> str:
        return f"/{name}{draw(st.one_of(st.just(''), pointers))}" if are_apart else draw(pointers)

    for name, one in found["fields"].items():
        if draw(st.booleans()):
            one["from"] = place(name)
    for name in draw(st.sets(st.sampled_from(["p", "q"]))):
        found["tags"][name] = place(name)
    if draw(st.booleans()):
        oldest = draw(st.sampled_from(["1ms", "500ms", "1s", "30d"]))
        found["time"] = {"from": place("at"), "unit": draw(units), "max_age": oldest, "max_future": "1ms"}
    return found


def is_accepted(rule: dict[str, Any], now_ns: int) -> bool:
    """Whether the gateway makes the example for a rule a reading; False if there is no example."""
    acme = startup(topics={"m": rule})
    shown = example(acme.topics["m"], now_ns)
    if shown is None:
        return False
    outcome = outcome_of(pipeline(acme), batch(message(shown.payload, shown.topic), arrived_ns=now_ns))
    assert outcome.rejections == []
    assert [(reading.device, reading.measurement) for reading in outcome.readings["acme"]] == [("DEVICE", "m")]
    return True


@given(rule=rules(are_apart=True), now_ns=moments)
def test_a_rule_has_an_example(rule: dict[str, Any], now_ns: int) -> None:
    """Every rule that can be satisfied has an example, and the gateway accepts it."""
    assert is_accepted(rule, now_ns)


@given(rule=rules(are_apart=False), now_ns=moments)
def test_an_example_is_accepted(rule: dict[str, Any], now_ns: int) -> None:
    """Whatever is in the way of what, an example that is shown is accepted, and its search never fails."""
    is_accepted(rule, now_ns)


def test_an_example_is_short() -> None:
    """A rule that points far into an array has no example, rather than one of a gigabyte."""
    field = {"type": "bool", "from": f"/a/{MAX_INDEX + 1}"}
    assert not is_accepted({"topic": "testbed/acme/{device}/m", "fields": {"f": field}}, NOW)
