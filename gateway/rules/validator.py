"""Record -> values of a reading, or every reason why not. One validator a topic rule, compiled once.

Good records take the fast way: pydantic has validated them while it decoded (`one`, `many`), and `finish` only
turns the time and the tags. Whatever is wrong takes the slow way, `explain`, which collects all reasons.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gateway.config import Pointer, TopicRule
from gateway.config.notations import NAME
from gateway.line_protocol import tag_is_writable
from gateway.model import Code, FieldValue, Reason
from gateway.rules.clock import Clock
from gateway.rules.schema import (
    INT64,
    MAX_TAG,
    MAX_TEXT,
    NOUN,
    PARENT,
    TAG,
    TAG_EXPECTED,
    TIME,
    compile_schema,
    expectations,
    optional_parents,
)

_SHOWN = 60
MAX_KEPT = 256
_CODE = {
    "missing": Code.MISSING,
    "extra_forbidden": Code.UNKNOWN_FIELD,
    "finite_number": Code.NOT_FINITE,
    "greater_than_equal": Code.OUT_OF_RANGE,
    "less_than_equal": Code.OUT_OF_RANGE,
    "string_too_long": Code.BAD_TEXT,
    "string_pattern_mismatch": Code.BAD_TEXT,
}
_KEPT_TYPES: dict[type, str] = {bool: "bool", int: "float", float: "float", str: "string"}


class Values(NamedTuple):
    """What a valid record says. `time_ns` is None where the rule takes the arrival time."""

    time_ns: int | None
    fields: Mapping[str, FieldValue]
    tags: Mapping[str, str]


_NO_TAGS: Mapping[str, str] = {}


class Validator:
    """One topic rule, compiled: `one` and `many` are the schema of one record and of an array of them."""

    def __init__(self, rule: TopicRule) -> None:
        self.rule = rule
        self.one, self.many = compile_schema(rule)
        self._clock = Clock(rule.time) if rule.time else None
        self._tags = tuple((name, TAG + name) for name in rule.tags)
        self._parents = tuple(PARENT + name for name in optional_parents(rule))
        self._optional = tuple(name for name, field in rule.fields.items() if not field.required)
        self._keeps = rule.unknown == "keep"
        self._expected = expectations(rule)
        self._members = {str(tokens[0]) for tokens in self._expected}
        self._only = f"only the members {', '.join(sorted(self._members))}"
        self._taken = {"time", "device", *rule.fields, *rule.tags, *rule.template.captures}
        self._kept: dict[str, str] = {}
        self.is_plain = not (self._keeps or self._clock or self._tags or self._parents or self._optional)
        """Whether a record that `one` has passed holds the fields and nothing else: `finish` has nothing to do."""

    def finish(self, record: dict[str, Any], now_ns: int) -> Values | None:
        """A record that `one` or `many` has passed, as values; None where `explain` must tell more.

        The record is taken over: what is left of it are the fields.
        """
        if self._keeps:
            return None
        time_ns = None
        if self._clock is not None:
            time_ns = self._clock.read(record.pop(TIME), now_ns)
            if time_ns is None:
                return None
        tags = _NO_TAGS
        if self._tags:
            texts = {name: tag_text(record.pop(key, None)) for name, key in self._tags}
            if None in texts.values():
                return None
            tags = {name: text for name, text in texts.items() if text}
        for key in self._parents:
            record.pop(key, None)
        for name in self._optional:
            if name in record and record[name] is None:
                del record[name]
        return Values(time_ns, record, tags) if record else None

    def validate(self, record: object, now_ns: int) -> Values | None:
        """The values of a record of plain values, or None where there are reasons against it, that `explain` tells."""
        if self._keeps:
            explained = self.explain(record, now_ns)
            return explained if isinstance(explained, Values) else None
        try:
            return self.finish(self.one.validate_python(record), now_ns)
        except ValidationError:
            return None

    def explain(self, record: object, now_ns: int, at: str = "") -> Values | list[Reason]:
        """Every reason against a record of plain values, or its values if there is none.

        `at` is where the record stands in the payload, `/3` for the fourth of an array.
        """
        if not isinstance(record, dict):
            return [Reason(Code.WRONG_TYPE, at or "payload", "a JSON object", _shown(record))]
        reasons: list[Reason] = []
        valid: dict[str, Any] = {}
        try:
            valid = self.one.validate_python(record)
        except ValidationError as error:
            reasons = [self._reason(one, at) for one in error.errors(include_url=False) if not self._is_parent(one)]
        reasons += self._time_reasons(record, now_ns, at) + self._tag_reasons(record, at)
        types = dict(self._kept)
        extra, refused = self._keep(record, types, at) if self._keeps else ({}, [])
        reasons += refused
        if reasons:
            return reasons
        self._kept = types
        return self._values(valid, extra, now_ns, at)

    def _values(
        self, valid: dict[str, Any], extra: dict[str, FieldValue], now_ns: int, at: str
    ) -> Values | list[Reason]:
        time_ns = self._clock.read(valid[TIME], now_ns) if self._clock else None
        tags = {name: text for name, key in self._tags if (text := tag_text(valid.get(key)))}
        fields = {name: valid[name] for name in self.rule.fields if valid.get(name) is not None} | extra
        if not fields:
            names = ", ".join(self.rule.fields)
            return [Reason(Code.EMPTY, at or "payload", f"at least one of the fields {names}", "none of them")]
        return Values(time_ns, fields, tags)

    def _is_parent(self, details: ErrorDetails) -> bool:
        """Whether it is about a known member, unknown to the schema just because what it asks for in it is missing."""
        return details["type"] == "extra_forbidden" and details["loc"][0] in self._members

    def _reason(self, details: ErrorDetails, at: str) -> Reason:
        pointer = Pointer(tuple(details["loc"]))
        where = f"{at}{pointer}"
        code = _CODE.get(details["type"], Code.WRONG_TYPE)
        if code is Code.UNKNOWN_FIELD:
            return Reason(
                code,
                where,
                self._only,
                _shown(details["input"]),
                "the rule of this topic says `unknown: reject`",
            )
        expected = self._expected.get(pointer.tokens, "what the rule says")
        return Reason(code, where, expected, "nothing" if code is Code.MISSING else _shown(details["input"]))

    def _time_reasons(self, record: dict[str, Any], now_ns: int, at: str) -> list[Reason]:
        """A time of the right type that is no time, or too far from now. The schema tells the rest."""
        if self._clock is None:
            return []
        pointer = self._clock.rule.from_
        value = _pick(record, pointer)
        if not self._clock.takes(value) or self._clock.read(value, now_ns) is not None:
            return []
        return [
            Reason(
                Code.BAD_TIME,
                f"{at}{pointer}",
                self._clock.describe(),
                _shown(value),
                self._clock.hint(value, now_ns),
            )
        ]

    def _tag_reasons(self, record: dict[str, Any], at: str) -> list[Reason]:
        picked = ((pointer, _pick(record, pointer)) for pointer in self.rule.tags.values())
        return [
            Reason(Code.BAD_TAG, f"{at}{pointer}", TAG_EXPECTED, _shown(value))
            for pointer, value in picked
            if tag_text(value) is None
        ]

    def _keep(
        self, record: dict[str, Any], types: dict[str, str], at: str
    ) -> tuple[dict[str, FieldValue], list[Reason]]:
        """`unknown: keep`: members that no rule names become fields, typed on first sight; `types` gets new ones."""
        kept: dict[str, FieldValue] = {}
        reasons = []
        for name, value in record.items():
            if name in self._members or value is None:
                continue
            if problem := self._kept_problem(name, value, types):
                reasons.append(Reason(Code.UNKNOWN_FIELD, f"{at}{Pointer((name,))}", problem, _shown(value)))
            else:
                kept[name] = float(value) if type(value) is int else value
        return kept, reasons

    def _kept_problem(self, name: str, value: Any, types: dict[str, str]) -> str:
        if name in self._taken or not re.fullmatch(NAME, name):
            return "a name of at most 63 letters, digits and _ (the first a letter) that no field or tag has"
        kind = _KEPT_TYPES.get(type(value))
        if kind is None or (kind == "float" and not abs(value) < INT64 * INT64):
            return "a number, a text or a boolean, to be kept as a field"
        if kind == "string" and (len(value) > MAX_TEXT or "\0" in value):
            return f"a text of at most {MAX_TEXT} characters without NUL"
        if len(types) >= MAX_KEPT and name not in types:
            return f"at most {MAX_KEPT} members that no rule names; write a rule for those that matter"
        first = types.setdefault(name, kind)
        return "" if kind == first else f"{NOUN[first]}, as it was when it was first kept"


def tag_text(value: object) -> str | None:
    """A tag's value as text, empty where there is none; None where it cannot be a tag."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int | float) or (isinstance(value, float) and not math.isfinite(value)):
        return None
    text = str(value)
    return text if len(text) <= MAX_TAG and tag_is_writable(text) else None


def _pick(record: Any, pointer: Pointer) -> Any:
    value = record
    for token in pointer.tokens:
        try:
            value = None if isinstance(value, str) else value[token]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def _shown(value: object) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
