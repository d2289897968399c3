"""What to publish so that something appears: the topic and a payload that the rule accepts. Pure."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, NamedTuple

from gateway.config import FieldRule, Pointer, TopicRule
from gateway.topics import Capture


class Example(NamedTuple):
    """A message that would be accepted, were it sent now."""

    topic: str
    payload: str


def example(rule: TopicRule, now: float) -> Example:
    """For the moment `now` (Unix seconds). What is not required is left out."""
    record: dict[str, Any] = {}
    if rule.time:
        _place(record, rule.time.from_, _time(rule.time.unit, now))
    for name, field in rule.fields.items():
        if field.required:
            _place(record, rule.pointer(name), _value(field))
    if not record:  # everything is optional: the first field will do
        name, field = next(iter(rule.fields.items()))
        _place(record, rule.pointer(name), _value(field))
    return Example(topic(rule), json.dumps(record))


def topic(rule: TopicRule) -> str:
    """The rule's topic, with <names> where the device puts its own."""
    levels = (f"<{level.name}>" if isinstance(level, Capture) else level for level in rule.template.levels)
    return "/".join(levels)


def _place(record: dict[str, Any], pointer: Pointer, value: object) -> None:
    """Put a value where the pointer points; a number in the pointer is a place in an array."""
    place: Any = record
    for token, following in zip(pointer.tokens, (*pointer.tokens[1:], None), strict=True):
        fresh = value if following is None else [] if isinstance(following, int) else {}
        if isinstance(token, int) and isinstance(place, list):
            place += [None] * (token + 1 - len(place))
            place[token] = fresh if following is None or place[token] is None else place[token]
            place = place[token]
        elif following is None:
            place[str(token)] = value
        else:
            place = place.setdefault(str(token), fresh)


def _time(unit: str, now: float) -> int | str:
    if unit == "rfc3339":
        return datetime.fromtimestamp(int(now), UTC).isoformat().replace("+00:00", "Z")
    return int(now) * {"s": 1, "ms": 1000, "us": 1_000_000, "ns": 1_000_000_000}[unit]


def _value(field: FieldRule) -> float | int | bool | str:
    """Something in the middle of what is allowed."""
    if field.type == "bool":
        return True
    if field.type == "string":
        return "ok"
    lowest = field.min if field.min is not None else 0.0 if field.max is None else min(0.0, field.max)
    highest = field.max if field.max is not None else lowest + 2
    middle = (lowest + highest) / 2
    return int(middle) if field.type == "int" else round(middle, 2)
