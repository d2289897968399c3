"""As much of JSON Schema 2020-12 as pydantic writes for our models, so that a test can act as an editor does."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

Json = Any

TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}
PASSED_OVER = {"$defs", "title", "description", "default", "examples", "format", "additionalProperties"}


def complaints(schema: Json, value: Json) -> list[str]:
    """`/where: what` for everything that the schema has against a value."""
    return list(_against(schema, value, "", schema))


def _against(schema: Json, value: Json, at: str, root: Json) -> Iterator[str]:
    for key, wanted in schema.items():
        if key not in PASSED_OVER:
            yield from _KEYWORDS[key](wanted, value, at, root)
    if "properties" in schema and schema.get("additionalProperties") is False and isinstance(value, dict):
        yield from (f"{at}/{name}: unknown" for name in value if name not in schema["properties"])


def _type(wanted: str, value: Json, at: str, root: Json) -> Iterator[str]:
    is_bool = isinstance(value, bool) and wanted in ("integer", "number")
    if is_bool or not isinstance(value, TYPES[wanted]):
        yield f"{at or '/'}: no {wanted}"


def _ref(wanted: str, value: Json, at: str, root: Json) -> Iterator[str]:
    yield from _against(root["$defs"][wanted.rpartition("/")[2]], value, at, root)


def _any_of(wanted: list[Json], value: Json, at: str, root: Json) -> Iterator[str]:
    found = [list(_against(one, value, at, root)) for one in wanted]
    if all(found):
        yield from found[0]


def _enum(wanted: list[Json], value: Json, at: str, root: Json) -> Iterator[str]:
    if value not in wanted:
        yield f"{at or '/'}: not among {wanted}"


def _required(wanted: list[str], value: Json, at: str, root: Json) -> Iterator[str]:
    yield from (f"{at or '/'}: {name} is missing" for name in wanted if name not in value)


def _properties(wanted: dict[str, Json], value: Json, at: str, root: Json) -> Iterator[str]:
    for name, schema in wanted.items():
        if isinstance(value, dict) and name in value:
            yield from _against(schema, value[name], f"{at}/{name}", root)


def _patterns(wanted: dict[str, Json], value: Json, at: str, root: Json) -> Iterator[str]:
    members = value.items() if isinstance(value, dict) else ()
    for pattern, schema in wanted.items():
        for name, member in members:
            if re.search(pattern, name):
                yield from _against(schema, member, f"{at}/{name}", root)


def _items(wanted: Json, value: Json, at: str, root: Json) -> Iterator[str]:
    for number, item in enumerate(value if isinstance(value, list) else ()):
        yield from _against(wanted, item, f"{at}/{number}", root)


def _bound(holds: Callable[[Json, Json], bool]) -> Callable[[Json, Json, str, Json], Iterator[str]]:
    def check(wanted: Json, value: Json, at: str, root: Json) -> Iterator[str]:
        try:
            good = holds(value, wanted)
        except TypeError:
            return  # of another type than the bound is about: `type` reports it
        if not good:
            yield f"{at or '/'}: {value!r} against {wanted!r}"

    return check


_KEYWORDS: dict[str, Callable[[Any, Json, str, Json], Iterator[str]]] = {
    "type": _type,
    "$ref": _ref,
    "anyOf": _any_of,
    "enum": _enum,
    "const": lambda wanted, value, at, root: _enum([wanted], value, at, root),
    "required": _required,
    "properties": _properties,
    "patternProperties": _patterns,
    "items": _items,
    "pattern": _bound(lambda value, wanted: re.search(wanted, value) is not None),
    "minimum": _bound(lambda value, wanted: value >= wanted),
    "maximum": _bound(lambda value, wanted: value <= wanted),
    "minLength": _bound(lambda value, wanted: len(value) >= wanted),
    "maxLength": _bound(lambda value, wanted: len(value) <= wanted),
    "minProperties": _bound(lambda value, wanted: len(value) >= wanted),
}
