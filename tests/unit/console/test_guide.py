"""What an empty page tells to publish."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from gateway.config import load
from gateway.config.models import FieldRule, TopicRule
from gateway.console import guide
from gateway.ingest.pipeline import Pipeline, unused
from gateway.model import Message

CONFIG = load(Path(__file__).parents[3] / "config")
RULES = [(startup.slug, name) for startup in CONFIG.startups for name in startup.topics]


@pytest.mark.parametrize(("slug", "measurement"), RULES)
def test_the_example_is_accepted(slug: str, measurement: str) -> None:
    """What the page tells to publish becomes a reading, for every rule of the sample configuration."""
    rule = CONFIG.by_slug[slug].topics[measurement]
    shown = guide.example(rule, time.time())
    topic = shown.topic.replace("<", "").replace(">", "")
    pipeline = Pipeline(CONFIG, unused(CONFIG.startups))
    evaluation = pipeline.evaluate(Message(topic, shown.payload.encode()), time.time_ns())
    assert evaluation.rejection is None
    assert [reading.measurement for reading in evaluation.readings] == [measurement]


def rule(**fields: object) -> TopicRule:
    return TopicRule.model_validate({"topic": "testbed/x/{device}/m", "fields": fields})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ({"type": "float"}, 1.0),
        ({"type": "float", "max": -5}, -5.0),
        ({"type": "float", "min": 10}, 11.0),
        ({"type": "int", "min": 3, "max": 3}, 3),
        ({"type": "bool"}, True),
        ({"type": "string"}, "ok"),
    ],
)
def test_a_value_lies_within_the_limits(field: dict[str, object], value: object) -> None:
    """Whatever limits there are."""
    found = guide._value(FieldRule.model_validate(field))
    assert found == value
    assert type(found) is type(value)


def test_a_pointer_into_an_array_makes_an_array() -> None:
    """`/values/1` is the second of an array."""
    shown = guide.example(rule(a={"type": "int", "from": "/values/1"}, b={"type": "bool", "from": "/values/0"}), 0)
    assert shown.payload == '{"values": [true, 1]}'


def test_something_is_there_where_everything_is_optional() -> None:
    """An empty record would be refused."""
    assert guide.example(rule(a={"type": "bool", "required": False}), 0).payload == '{"a": true}'
