"""Examples of messages, as the web page and the hand-outs show them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.rules.example import Example, example
from tests.builders import NOW, batch, message, outcome_of, pipeline, rule, samples

SAMPLES = samples()
RULES = [(startup.slug, name) for startup in SAMPLES.startups for name in startup.topics]


def shown(fields: dict[str, Any], **settings: Any) -> Example:
    found = example(rule(fields, **settings), NOW)
    assert found is not None
    return found


@pytest.mark.parametrize(("slug", "measurement"), RULES)
def test_examples_of_the_samples_are_accepted(slug: str, measurement: str) -> None:
    """Each rule of the sample configuration accepts its example."""
    found = example(SAMPLES.by_slug[slug].topics[measurement], NOW)
    assert found is not None
    outcome = outcome_of(pipeline(*SAMPLES.startups), batch(message(found.payload, found.topic)))
    assert outcome.rejections == []
    assert [reading.measurement for reading in outcome.readings[slug]] == [measurement]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ({"type": "float"}, 1.0),
        ({"type": "float", "max": -5}, -5.0),
        ({"type": "float", "min": 10}, 11.0),
        ({"type": "float", "min": -40, "max": 125}, 42.5),
        ({"type": "float", "min": 0.001, "max": 0.004}, 0.003),
        ({"type": "float", "min": 5e-324, "max": 5e-324}, 5e-324),
        ({"type": "float", "min": -1.7e308, "max": 1.7e308}, 0.0),
        ({"type": "int"}, 1),
        ({"type": "int", "min": 3, "max": 3}, 3),
        ({"type": "int", "min": 0.5, "max": 1.4}, 1),
        ({"type": "int", "min": -3.5, "max": -2.5}, -3),
        ({"type": "int", "min": -1e30}, -(1 << 63) + 1),
        ({"type": "bool"}, True),
        ({"type": "string"}, "text"),
    ],
)
def test_a_value_lies_within_the_limits(field: dict[str, object], value: object) -> None:
    """A value is in the middle of its range, and as short as the range allows."""
    found = json.loads(shown({"f": field}).payload)["f"]
    assert found == value
    assert type(found) is type(value)


def test_captures_stand_in_capitals() -> None:
    """Whoever pastes the example sees what to replace, and the gateway accepts it as it is."""
    found = shown({"f": {"type": "bool"}}, topic="testbed/acme/{device}/{room}/m")
    assert found.topic == "testbed/acme/DEVICE/ROOM/m"


def test_a_pointer_into_an_array_makes_an_array() -> None:
    """`/values/1` is the second entry of an array."""
    found = shown({"a": {"type": "int", "from": "/values/1"}, "b": {"type": "bool", "from": "/values/0"}})
    assert found.payload == '{"values": [true, 1]}'


def test_example_of_optional_fields_has_at_least_one() -> None:
    """A reading has at least one field, also beside a time: one whose rule can be satisfied."""
    optional = {
        "a": {"type": "int", "required": False, "min": 0.2, "max": 0.8},
        "b": {"type": "bool", "required": False},
    }
    found = shown(optional, time={"from": "/at", "unit": "s"})
    assert found.payload == '{"b": true, "at": 1795000000}'


def test_fields_of_one_place_share_a_value() -> None:
    """A value that several fields and the time pick is within the limits of all."""
    several = {
        "a": {"type": "float", "from": "/v", "min": 0, "max": 10},
        "b": {"type": "int", "from": "/v", "min": 9, "required": False},
    }
    assert shown(several).payload == '{"v": 9}'
    assert shown({"at": {"type": "int"}}, time={"from": "/at", "unit": "s"}).payload == '{"at": 1795000000}'


def test_a_time_is_as_exact_as_the_rule_requires() -> None:
    """A whole second is shown, and more digits only where the rule takes nothing that old."""
    exact = rule(time={"from": "/at", "unit": "ms", "max_age": "100ms"})
    found = example(exact, NOW + 900_500_000)
    assert found is not None
    assert json.loads(found.payload)["at"] == 1_795_000_000_900.5


@pytest.mark.parametrize(
    "fields",
    [
        {"f": {"type": "int", "min": 0.2, "max": 0.8}},
        {"f": {"type": "bool", "from": "/a"}, "g": {"type": "bool", "from": "/a/b"}},
        {"f": {"type": "bool", "from": "/a/0"}, "g": {"type": "bool", "from": "/a/b"}},
    ],
)
def test_no_example_where_nothing_is_accepted(fields: dict[str, Any]) -> None:
    """A rule that no message can satisfy has no example."""
    assert example(rule(fields), NOW) is None
