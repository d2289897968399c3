"""InfluxQL: statements, and the answers of `/query`. Pure.

InfluxQL is what InfluxDB 1.8, 2 and 3 and Grafana's editor have in common. With `chunked=true` an answer is a
JSON document a line, each with the rows of one series:

    {"results": [{"series": [{"name": …, "tags": {…}, "columns": ["time", …], "values": [[…], …]}]}]}
"""

# ruff: noqa: S608  # names and texts go in by `identifier` and `string`, which quote them

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.config.models import REJECTIONS
from gateway.errors import StoreUnavailable
from gateway.model import FieldValue
from gateway.stores.contract import Query, Row

LOWEST, HIGHEST = -(2**63) + 2, 2**63 - 2
"""The times that InfluxDB can store, ns since 1970."""

NOT_FOUND = "database not found"
"""What the error says where a bucket is not there, or the token may not read it."""

PROBE = f'SELECT * FROM "{REJECTIONS}" LIMIT 1'
"""Answered without an error wherever a bucket may be read, whatever is in it."""

FieldTypes = dict[str, dict[str, str]]
"""Measurement -> field -> `float`, `integer`, `string` or `boolean`."""

_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\"", "'": r"\'"})
_NUMBERS = ("float", "integer")
_STRONGEST = ("float", "integer", "string", "boolean")
_CONVERT: dict[str, Callable[[Any], FieldValue]] = {"float": float, "integer": int}


@dataclass(frozen=True, slots=True)
class Series:
    """Some rows of one series, as they came. `columns` and each of `values` begin with the time."""

    measurement: str
    tags: Mapping[str, str]
    columns: Sequence[str]
    values: Sequence[Sequence[Any]]


def identifier(name: str) -> str:
    """A name, quoted."""
    return f'"{name.translate(_ESCAPES)}"'


def string(text: str) -> str:
    """A string literal."""
    return f"'{text.translate(_ESCAPES)}'"


def field_keys(measurement: str) -> str:
    """The fields of one measurement and their types."""
    return f"SHOW FIELD KEYS FROM {identifier(measurement)}"


def tag_keys(measurement: str) -> str:
    """The tags of one measurement."""
    return f"SHOW TAG KEYS FROM {identifier(measurement)}"


def history(query: Query, types: Mapping[str, str]) -> str:
    """The rows of a query; `types` are those of the measurement's fields, at least one."""
    where = f"time >= {max(query.start_ns, LOWEST)} AND time < {min(query.stop_ns, HIGHEST + 1)}"
    if query.device is not None:
        where += f" AND {identifier('device')} = {string(query.device)}"
    select = f"FROM {identifier(query.measurement)} WHERE {where} GROUP BY *"
    if query.every_ns is None:
        return f"SELECT * {select}"
    values = ", ".join(f"{_aggregate(kind)}({identifier(n)}) AS {identifier(n)}" for n, kind in types.items())
    return f"SELECT {values} {select}, time({query.every_ns}ns) fill(none)"


def latest(measurements: Iterable[str]) -> str:
    """The newest point of every series.

    A statement for each measurement: one over all of them reads a field that is a float here and a string
    there as one of the two, and loses the other.
    """
    return "; ".join(f"SELECT * FROM {identifier(name)} GROUP BY * ORDER BY time DESC LIMIT 1" for name in measurements)


def answered(document: bytes) -> list[Series]:
    """The series of one line of an answer. A database that does not exist has none.

    Raises:
        StoreUnavailable: InfluxDB answers with an error, or it is not InfluxDB that answers.
    """
    try:
        body = json.loads(document)
        results = [body] if "error" in body else body.get("results", [])
        return [series for result in results for series in _series(result)]
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise StoreUnavailable(f"this is no answer that InfluxDB gives: {document[:200]!r}") from error


def field_types(answer: Iterable[Series]) -> FieldTypes:
    """The answer of SHOW FIELD KEYS. Of a field that has several types, the one that InfluxQL reads it as."""
    types: FieldTypes = {}
    for series in answer:
        found = sorted(series.values, key=lambda pair: _rank(pair[1]), reverse=True)
        types.setdefault(series.measurement, {}).update((name, kind) for name, kind in found)
    return types


def downsampled(types: Mapping[str, str]) -> dict[str, str]:
    """The types that the windows of a downsampled query have: means are floats."""
    return {name: "float" if kind in _NUMBERS else kind for name, kind in types.items()}


def rows(series: Series, types: Mapping[str, str]) -> Iterator[Row]:
    """The rows of a series, each value in its field's own type: JSON does not tell 21.0 from 21."""
    tags = {key: value for key, value in series.tags.items() if value}
    names = series.columns[1:]
    convert = [_CONVERT.get(types.get(name, ""), _as_it_is) for name in names]
    for time_ns, *values in series.values:
        fields = {name: to(value) for name, to, value in zip(names, convert, values, strict=True) if value is not None}
        if fields:
            yield Row(time_ns, tags, fields)


def _series(result: Mapping[str, Any]) -> Iterator[Series]:
    error = result.get("error")
    if error is not None and NOT_FOUND not in error:
        raise StoreUnavailable(f"InfluxDB could not answer: {error}")
    for found in result.get("series", ()):
        tags, values = found.get("tags") or {}, found.get("values", ())
        yield Series(found.get("name", ""), tags, found["columns"], values)


def _aggregate(kind: str) -> str:
    return "mean" if kind in _NUMBERS else "last"


def _rank(kind: str) -> int:
    return _STRONGEST.index(kind) if kind in _STRONGEST else len(_STRONGEST)


def _as_it_is(value: FieldValue) -> FieldValue:
    return value
