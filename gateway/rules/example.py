"""An example message for a topic rule: one that the gateway accepts, to be shown to people. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from gateway import timestamps
from gateway.config import FieldRule, Pointer, TimeRule, TopicRule
from gateway.model import FieldValue
from gateway.rules.clock import Clock
from gateway.rules.schema import INT64
from gateway.rules.validator import Validator
from gateway.topics import Capture

MAX_INDEX = 1000
"""Highest index of an array that an example fills: a rule may point to the 999,999,999th entry."""


class Example(NamedTuple):
    """A message that the gateway accepts."""

    topic: str
    payload: str


def example(rule: TopicRule, now_ns: int) -> Example | None:
    """Return a message that is accepted at `now_ns`, with nothing that is optional, where the rule allows that.

    Captured names stand in capitals in its topic: `testbed/acme/DEVICE/climate`. None if nothing can satisfy the rule,
    such as an integer from 0.2 to 0.8, or a field at `/a` beside one at `/a/b`.
    """
    validator = Validator(rule)
    levels = (level.name.upper() if isinstance(level, Capture) else level for level in rule.template.levels)
    for names in _choices(rule):
        record = _record(rule, names, now_ns)
        if record is not None and validator.validate(record, now_ns) is not None:
            return Example("/".join(levels), rule.format.write(record))
    return None


def _choices(rule: TopicRule) -> Iterator[list[str]]:
    """Yield the fields to send: those that are required or, since a reading has at least one, each by itself."""
    if required := [name for name, field in rule.fields.items() if field.required]:
        yield required
    else:
        yield from ([name] for name in rule.fields)


def _record(rule: TopicRule, names: Sequence[str], now_ns: int) -> dict[str, Any] | None:
    """Return a record with these fields and a time; None if they are in each other's way."""
    record: dict[str, Any] = {}
    places: dict[Pointer, list[FieldRule]] = {}
    for name, field in rule.fields.items():
        places.setdefault(rule.pointer(name), []).append(field)
    wanted: dict[Pointer, object] = {rule.pointer(name): _value(places[rule.pointer(name)]) for name in names}
    if rule.time:
        wanted[rule.time.from_] = _time(rule.time, now_ns)
    return record if all(_put(record, pointer, value) for pointer, value in wanted.items()) else None


def _put(record: dict[str, Any], pointer: Pointer, value: object) -> bool:
    """Put a value where a pointer leads, with the objects and arrays on the way; False where that cannot be."""
    place: Any = record
    for token, following in zip(pointer.tokens, (*pointer.tokens[1:], None), strict=True):
        kind: Any = list if isinstance(token, int) else dict
        if not isinstance(place, kind):
            return False
        if isinstance(token, int):
            if token > MAX_INDEX:
                return False
            place += [None] * (token + 1 - len(place))
        held = place[token] if isinstance(token, int) else place.get(token)
        if following is None:
            place[token] = value
        elif held is None:
            place[token] = [] if isinstance(following, int) else {}
        place = place[token]
    return True


def _time(rule: TimeRule, now_ns: int) -> int | float | str:
    """Return now in the rule's unit: as a whole second, where the rule takes a time that old."""
    second_ns = now_ns // timestamps.NS * timestamps.NS
    clock = Clock(rule)
    old, exact = _in_unit(rule.unit, second_ns), _in_unit(rule.unit, now_ns)
    return exact if clock.read(old, now_ns) is None else old


def _in_unit(unit: str, time_ns: int) -> int | float | str:
    if unit == "rfc3339":
        return timestamps.to_rfc3339(time_ns)
    whole, rest = divmod(time_ns, {"s": timestamps.NS, "ms": 1_000_000, "us": 1000, "ns": 1}[unit])
    return time_ns / timestamps.NS if rest and unit == "s" else time_ns / 1e6 if rest and unit == "ms" else whole


def _value(fields: Sequence[FieldRule]) -> FieldValue:
    """Return something from the middle of what these fields, of one place, allow."""
    types = {field.type for field in fields}
    if "bool" in types:
        return True
    if "string" in types:
        return "text"
    lows = [field.min for field in fields if field.min is not None]
    highs = [field.max for field in fields if field.max is not None]
    low = max(lows, default=min([0.0, *highs]))
    if "int" in types:
        lowest = max(-INT64, math.ceil(low))
        highest = min(INT64 - 1, math.floor(min(highs)) if highs else lowest + 2)
        return (lowest + highest) // 2
    high = min(highs, default=low + 2)
    middle = low / 2 + high / 2
    rounded = (round(middle, digits) + 0.0 for digits in range(1, 18))
    return next((value for value in rounded if low <= value <= high), min(max(middle, low), high))
