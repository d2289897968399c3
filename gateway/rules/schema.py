"""A topic rule, compiled: the pydantic schema of its records, what is expected of each member, and its clock.

The schema's keys are the field names; the time, the tags and the members that hold only optional ones have keys of
their own (`TIME`, `TAG` + name, `PARENT` + name) that no field can have.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, NotRequired

from pydantic import AliasPath, ConfigDict, FailFast, Field, TypeAdapter
from typing_extensions import TypedDict

from gateway.config import FieldRule, Pointer, TimeRule, TopicRule
from gateway.payloads import Record
from gateway.rules.clock import Clock

INT64 = 1 << 63
MAX_TEXT = 65_535
MAX_TAG = 512
TIME, TAG, PARENT = "$time", "$tag:", "$in:"
PYTHON_TYPES: dict[str, type] = {"float": float, "int": int, "bool": bool, "string": str}
NOUN = {"float": "a number", "int": "an integer", "bool": "true or false", "string": "a string"}
TAG_EXPECTED = (
    rf"a string, number or boolean of at most {MAX_TAG} characters, "
    r"no control character, no \ before a space or at its end"
)

Adapters = tuple[TypeAdapter[Record], TypeAdapter[list[Record]]]
COMPILED_KEPT = 1000
WITHOUT_EFFECT = {"topic", "silent_after"}
"""Options of a rule that its schema does not depend on. Every other option, even a future one, is part of the key."""
_COMPILED: dict[str, Adapters] = {}


def compile_schema(rule: TopicRule) -> Adapters:
    """Return the adapters of one record, and of an array of at least one.

    Rules that differ in nothing that matters share them: they are large, and many startups begin with the same rule.
    """
    key = rule.model_dump_json(exclude=WITHOUT_EFFECT)
    if key not in _COMPILED:
        if len(_COMPILED) >= COMPILED_KEPT:
            _COMPILED.clear()
        _COMPILED[key] = _compile(rule)
    return _COMPILED[key]


def _compile(rule: TopicRule) -> Adapters:
    members: dict[str, Any] = {}
    for name, field in rule.fields.items():
        kind: Any = Annotated[_field_type(field), _from(rule.pointer(name))]
        members[name] = kind if field.required else NotRequired[kind]
    for name, pointer in rule.tags.items():
        members[TAG + name] = NotRequired[Annotated[Any, _from(pointer)]]
    if rule.time:
        members[TIME] = Annotated[_time_type(rule.time), _from(rule.time.from_)]
    for parent in optional_parents(rule):
        members[PARENT + parent] = NotRequired[Annotated[Any, Field(validation_alias=parent)]]
    make: Any = TypedDict  # its members are known only here, so mypy cannot look at it
    schema = make("Record", members)
    schema.__pydantic_config__ = ConfigDict(extra="forbid" if rule.unknown == "reject" else "ignore", strict=True)
    many: Any = list.__class_getitem__(schema)
    # At the first invalid record: `explain` finds the others, up to a bound.
    return TypeAdapter(schema), TypeAdapter(Annotated[many, Field(min_length=1), FailFast()])


def optional_parents(rule: TopicRule) -> tuple[str, ...]:
    """Return the members that may be empty in a valid record: `{"meter": {}}` where all of `/meter/…` is optional.

    They are part of the schema, which would otherwise reject them as unknown.
    """
    optional = {rule.pointer(name) for name, field in rule.fields.items() if not field.required}
    required = {rule.pointer(name) for name, field in rule.fields.items() if field.required}
    optional |= set(rule.tags.values())
    required |= {rule.time.from_} if rule.time else set()
    always = {pointer.tokens[0] for pointer in required}
    return tuple(sorted({str(p.tokens[0]) for p in optional if len(p.tokens) > 1 and p.tokens[0] not in always}))


def expectations(rule: TopicRule) -> dict[tuple[str | int, ...], str]:
    """Return what is expected at each place that the rule picks from, for people."""
    expected = {rule.pointer(name).tokens: _describe(field) for name, field in rule.fields.items()}
    expected |= {pointer.tokens: TAG_EXPECTED for pointer in rule.tags.values()}
    if rule.time:
        expected[rule.time.from_.tokens] = Clock(rule.time).describe()
    return expected


def _from(pointer: Pointer) -> Any:
    first, *rest = pointer.tokens
    return Field(validation_alias=AliasPath(str(first), *rest) if rest else str(first))


def _field_type(field: FieldRule) -> Any:
    kind: Any
    match field.type:
        case "float":
            kind = Annotated[float, Field(ge=field.min, le=field.max, allow_inf_nan=False)]
        case "int":
            lowest = -INT64 if field.min is None else max(-INT64, math.ceil(field.min))
            highest = INT64 - 1 if field.max is None else min(INT64 - 1, math.floor(field.max))
            kind = Annotated[int, Field(ge=lowest, le=highest)]
        case "bool":
            kind = bool
        case "string":
            kind = Annotated[str, Field(max_length=MAX_TEXT, pattern=r"^[^\x00]*$")]
    return kind if field.required else kind | None


def _time_type(time: TimeRule) -> Any:
    if time.unit == "rfc3339":
        return str
    if time.unit in ("s", "ms"):
        return Annotated[float, Field(allow_inf_nan=False)]
    return int


def _describe(field: FieldRule) -> str:
    text = NOUN[field.type]
    if field.min is not None and field.max is not None:
        text += f" from {field.min:g} to {field.max:g}"
    elif field.min is not None:
        text += f" of at least {field.min:g}"
    elif field.max is not None:
        text += f" of at most {field.max:g}"
    if field.type == "int" and (field.min is None or field.max is None):
        text += ", in 64 bits"
    if field.type == "string":
        text += f" of at most {MAX_TEXT} characters, without NUL"
    return f"{text} ({field.unit})" if field.unit else text
