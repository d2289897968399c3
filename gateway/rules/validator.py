"""Record -> values of a reading, or every reason why not. One validator a topic rule, compiled once.

pydantic validates valid records while it decodes them (`one`, `many`), and `finish` does what remains. For any other
record `explain` collects all reasons.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import islice
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gateway.config import Pointer, TopicRule
from gateway.config.notations import NAME
from gateway.model import Code, FieldValue, Reason
from gateway.payloads import Record
from gateway.rules.field_types import KINDS, MeasurementTypes, widened
from gateway.rules.finishing import NO_TAGS, Values, Widen, finishing_steps, shown
from gateway.rules.schema import INT64, MAX_TEXT, compile_schema, expectations

MAX_KEPT = 256
BEYOND = INT64 * INT64
"""No kept number is as large."""
NUMBERS = (int, float)
MAX_REASONS = 100
"""Maximum for one message: a sender of garbage must not fill the disk with descriptions of it, or take the time that
thousands of them need."""
_CODE = {
    "missing": Code.MISSING,
    "extra_forbidden": Code.UNKNOWN_FIELD,
    "finite_number": Code.NOT_FINITE,
    "greater_than_equal": Code.OUT_OF_RANGE,
    "less_than_equal": Code.OUT_OF_RANGE,
    "string_too_long": Code.BAD_TEXT,
    "string_pattern_mismatch": Code.BAD_TEXT,
}


class Validator:
    """One topic rule, compiled: `one` and `many` are the schema of one record and of an array of them.

    `types` are those of the fields of its measurement.
    """

    def __init__(self, rule: TopicRule, types: MeasurementTypes | None = None) -> None:
        self.rule = rule
        self._types = MeasurementTypes("", "", []) if types is None else types
        self.one, self.many = compile_schema(rule)
        names = widened(rule, self._types)
        self._steps = (*finishing_steps(rule), *([Widen(names)] if names else ()))
        self._keeps = rule.unknown == "keep"
        self._expected = expectations(rule)
        self._members = {str(tokens[0]) for tokens in self._expected}
        self._only = f"only the members {', '.join(sorted(self._members))}"
        self._taken = {"time", "device", *rule.fields, *rule.tags, *rule.template.captures}
        self._most = MAX_KEPT + len(rule.fields)
        apply: list[Callable[[Values, int], bool]] = [step.apply for step in self._steps]
        if self._keeps:
            apply.append(lambda _values, _now_ns: False)  # `explain` finds the members to keep, in the record
        if not any(field.required for field in rule.fields.values()):
            apply.append(lambda values, _now_ns: bool(values.fields))
        self._finishing = tuple(apply)

    @property
    def is_plain(self) -> bool:
        """Return whether `finish` has nothing to do, as a record that `one` has passed holds just the fields."""
        return not self._finishing

    def finish(self, record: Record, now_ns: int) -> Values | None:
        """Return the values of a record that `one` or `many` has passed; None if only `explain` can decide.

        The record itself becomes the fields.
        """
        values = Values(None, record, NO_TAGS)
        for apply in self._finishing:
            if not apply(values, now_ns):
                return None
        return values

    def validate(self, record: object, now_ns: int) -> Values | None:
        """Return the values of a record of plain values, or None if `explain` has reasons against it."""
        if self._keeps:
            explained = self.explain(record, now_ns)
            return explained if isinstance(explained, Values) else None
        try:
            return self.finish(self.one.validate_python(record), now_ns)
        except ValidationError:
            return None

    def explain(self, record: object, now_ns: int, at: str = "") -> Values | list[Reason]:
        """Return the reasons against a record of plain values, a few more than `MAX_REASONS` at most, or its values if
        there is none.

        `at` is the record's position in the payload, `/3` for the fourth of an array.
        """
        if not isinstance(record, dict):
            return [Reason(Code.WRONG_TYPE, at or "payload", "a JSON object", shown(record))]
        reasons: list[Reason] = []
        valid: Record = {}
        try:
            valid = self.one.validate_python(record)
        except ValidationError as error:
            wrong = (one for one in error.errors(include_url=False) if not self._is_parent(one))
            reasons = [self._reason(one, at) for one in islice(wrong, MAX_REASONS + 1)]
        for step in self._steps:
            reasons += step.reasons(record, now_ns, at)
        extra, rejected = self._keep(record, at) if self._keeps else ({}, [])
        reasons += rejected
        if reasons:
            return reasons
        values = Values(None, valid, NO_TAGS)
        for step in self._steps:
            step.apply(values, now_ns)
        values.fields |= extra
        if values.fields:
            return values
        names = ", ".join(self.rule.fields)
        return [Reason(Code.EMPTY, at or "payload", f"at least one of the fields {names}", "none of them")]

    def _is_parent(self, details: ErrorDetails) -> bool:
        """Return whether this is a known member, unknown to the schema only because its contents are missing."""
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
                shown(details["input"]),
                "the rule of this topic says `unknown: reject`",
            )
        expected = self._expected.get(pointer.tokens, "a value that the rule allows")
        return Reason(code, where, expected, "nothing" if code is Code.MISSING else shown(details["input"]))

    def _keep(self, record: dict[str, Any], at: str) -> tuple[dict[str, FieldValue], list[Reason]]:
        """Return as fields the members that no rule names, of the type that each field has, if it has one yet."""
        kept: dict[str, FieldValue] = {}
        new, reasons, locks = 0, list[Reason](), self._types.locked
        for name, value in record.items():
            if name in self._members or value is None:
                continue
            lock = locks.get(name)
            is_float = lock is not None and lock.type == "float" and type(value) in NUMBERS
            if is_float and abs(value) < BEYOND and name not in self._taken:  # what nearly all are
                kept[name] = float(value)
                continue
            if len(reasons) > MAX_REASONS:
                break
            if problem := self._kept_problem(name, value, new):
                reasons.append(Reason(Code.UNKNOWN_FIELD, f"{at}{Pointer((name,))}", problem, shown(value)))
            elif lock is None:
                kept[name] = float(value) if type(value) is int else value
                new += name not in self._types
            elif (known := _as(lock.type, value)) is None:
                where = f"{at}{Pointer((name,))}"
                reasons.append(self._types.conflict(name, where, KINDS[type(value)], shown(value)))
            else:
                kept[name] = known
        return kept, reasons

    def _kept_problem(self, name: str, value: Any, new: int) -> str:
        is_known = name in self._types.locked
        if name in self._taken or not (is_known or re.fullmatch(NAME, name)):
            return "a name of at most 63 letters, digits and _ (the first a letter) that no field or tag has"
        kind = KINDS.get(type(value))
        if kind is None or (kind == "float" and not abs(value) < BEYOND):
            return "a number, a string or a boolean, to be kept as a field"
        if kind == "string" and (len(value) > MAX_TEXT or "\0" in value):
            return f"a string of at most {MAX_TEXT} characters without NUL"
        if not is_known and name not in self._types and len(self._types) + new >= self._most:
            return f"at most {MAX_KEPT} members that no rule names; write a rule for those that matter"
        return ""


def _as(locked: str, value: Any) -> FieldValue | None:
    """Return a value as one of its field's type; None if it is of another."""
    if locked == "int":
        return value if type(value) is int and -INT64 <= value < INT64 else None
    if KINDS[type(value)] != locked:
        return None
    return float(value) if type(value) is int else value
