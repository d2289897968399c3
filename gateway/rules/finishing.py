"""Steps that remain after a record has passed the schema.

A plain rule has none, and its records go straight through. A rule option that changes or checks values after the
schema adds its step to `finishing_steps`, so that the fast path cannot miss it.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from typing_extensions import override

from gateway.config import Pointer, TopicRule
from gateway.line_protocol import tag_is_writable
from gateway.model import Code, FieldValue, Reason
from gateway.payloads import Record
from gateway.rules.clock import Clock
from gateway.rules.schema import MAX_TAG, PARENT, TAG, TAG_EXPECTED, TIME, optional_parents

NO_TAGS: Mapping[str, str] = {}
_SHOWN = 60


@dataclass(slots=True)
class Values:
    """Values of a valid record. `time_ns` is None if the rule uses the arrival time."""

    time_ns: int | None
    fields: dict[str, FieldValue]
    tags: Mapping[str, str]


class Step(ABC):
    """One step after the schema."""

    @abstractmethod
    def apply(self, values: Values, now_ns: int) -> bool:
        """Change the values, whose `fields` begin as all that the schema has passed; False where `reasons` has some."""

    def reasons(self, record: Record, now_ns: int, at: str) -> list[Reason]:  # noqa: ARG002  # nothing, by default
        """Return what is wrong with a record of plain values, except for what the schema says."""
        return []


def finishing_steps(rule: TopicRule) -> tuple[Step, ...]:
    """Return the steps of a rule."""
    steps: list[Step] = []
    if rule.time:
        steps.append(_TakeTime(Clock(rule.time)))
    if rule.tags:
        steps.append(_TakeTags(rule.tags))
    if parents := optional_parents(rule):
        steps.append(_LeaveOut(parents))
    if optional := [name for name, field in rule.fields.items() if not field.required]:
        steps.append(_LeaveOutNull(optional))
    return tuple(steps)


class _TakeTime(Step):
    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    @override
    def apply(self, values: Values, now_ns: int) -> bool:
        values.time_ns = self._clock.read(values.fields.pop(TIME), now_ns)
        return values.time_ns is not None

    @override
    def reasons(self, record: Record, now_ns: int, at: str) -> list[Reason]:
        """Report a time of the right type that is not a time, or too far from now. The schema reports the rest."""
        pointer = self._clock.rule.from_
        value = pick(record, pointer)
        if not self._clock.takes(value) or self._clock.read(value, now_ns) is not None:
            return []
        expected, hint = self._clock.describe(), self._clock.hint(value, now_ns)
        return [Reason(Code.BAD_TIME, f"{at}{pointer}", expected, shown(value), hint)]


class _TakeTags(Step):
    def __init__(self, tags: Mapping[str, Pointer]) -> None:
        self._tags = tuple((name, TAG + name) for name in tags)
        self._pointers = tuple(tags.values())

    @override
    def apply(self, values: Values, now_ns: int) -> bool:
        texts = {name: tag_text(values.fields.pop(key, None)) for name, key in self._tags}
        if None in texts.values():
            return False
        values.tags = {name: text for name, text in texts.items() if text}
        return True

    @override
    def reasons(self, record: Record, now_ns: int, at: str) -> list[Reason]:
        picked = ((pointer, pick(record, pointer)) for pointer in self._pointers)
        return [
            Reason(Code.BAD_TAG, f"{at}{pointer}", TAG_EXPECTED, shown(value))
            for pointer, value in picked
            if tag_text(value) is None
        ]


class _LeaveOut(Step):
    """Leaves out the members that are in the schema only for what they hold."""

    def __init__(self, parents: Iterable[str]) -> None:
        self._keys = tuple(PARENT + name for name in parents)

    @override
    def apply(self, values: Values, now_ns: int) -> bool:
        for key in self._keys:
            values.fields.pop(key, None)
        return True


class _LeaveOutNull(Step):
    """Leaves out the optional fields that are null."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = tuple(names)

    @override
    def apply(self, values: Values, now_ns: int) -> bool:
        fields: dict[str, Any] = values.fields
        for name in self._names:
            if name in fields and fields[name] is None:
                del fields[name]
        return True


def tag_text(value: object) -> str | None:
    """Return a tag's value as a string, empty where there is none; None where it cannot be a tag."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int | float) or (isinstance(value, float) and not math.isfinite(value)):
        return None
    text = str(value)
    return text if len(text) <= MAX_TAG and tag_is_writable(text) else None


def shown(value: object) -> str:
    """Return a value as a reason shows it: as JSON, shortened."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def pick(record: Any, pointer: Pointer) -> Any:
    """Return the member of a record at a place; None where there is none."""
    value = record
    for token in pointer.tokens:
        try:
            value = None if isinstance(value, str) else value[token]
        except (KeyError, IndexError, TypeError):
            return None
    return value
