"""InfluxQL: statements, and the answers of `/query`. Pure.

InfluxQL is what InfluxDB 1.8, 2 and 3 and Grafana's editor have in common. With `chunked=true` an answer is a
JSON document a line, each with the rows of one series:

    {"results": [{"series": [{"name": …, "tags": {…}, "columns": ["time", …], "values": [[…], …]}]}]}
"""

# ruff: noqa: S608  # names and strings go in by `identifier` and `string`, which quote them

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from gateway.config.startup_file import REJECTIONS
from gateway.errors import StoreUnavailable
from gateway.model import FieldValue
from gateway.stores.contract import Query, Row

LOWEST, HIGHEST = -(2**63) + 2, 2**63 - 2
"""The times that InfluxDB can store, ns since 1970."""

NOT_FOUND = "database not found"
"""Part of the error where a bucket does not exist, or the token may not read it."""

PROBE = f'SELECT * FROM "{REJECTIONS}" LIMIT 1'
"""A statement without an error wherever a bucket may be read, whatever is in it."""

SHOWN = 200
"""Characters of an answer that an error shows."""

T = TypeVar("T")
A = TypeVar("A")

FieldTypes = dict[str, dict[str, str]]
"""Measurement -> field -> `float`, `integer`, `string` or `boolean`."""

_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\"", "'": r"\'"})
_NUMBERS = ("float", "integer")
_STRONGEST = ("float", "integer", "string", "boolean")


@dataclass(frozen=True, slots=True)
class Series:
    """Some rows of one series, as received. `columns` and each of `values` begin with the time."""

    measurement: str
    tags: Mapping[str, str]
    columns: Sequence[str]
    values: Sequence[Sequence[Any]]


def identifier(name: str) -> str:
    """Quote a name."""
    return f'"{name.translate(_ESCAPES)}"'


def string(text: str) -> str:
    """Quote a string."""
    return f"'{text.translate(_ESCAPES)}'"


def field_keys(measurement: str) -> str:
    """Ask for the fields of one measurement and their types."""
    return f"SHOW FIELD KEYS FROM {identifier(measurement)}"


def tag_keys(measurement: str) -> str:
    """Ask for the tags of one measurement."""
    return f"SHOW TAG KEYS FROM {identifier(measurement)}"


def history(query: Query, types: Mapping[str, str]) -> str:
    """Ask for the rows of a query; `types` are those of the measurement's fields, at least one."""
    where = f"time >= {max(query.start_ns, LOWEST)} AND time < {min(query.stop_ns, HIGHEST + 1)}"
    if query.device is not None:
        where += f" AND {identifier('device')} = {string(query.device)}"
    select = f"FROM {identifier(query.measurement)} WHERE {where} GROUP BY *"
    if query.every_ns is None:
        return f"SELECT * {select}"
    aggregates = {name: "mean" if kind in _NUMBERS else "last" for name, kind in types.items()}
    values = ", ".join(f"{how}({identifier(name)}) AS {identifier(name)}" for name, how in aggregates.items())
    return f"SELECT {values} {select}, time({query.every_ns}ns) fill(none)"


def latest(measurements: Iterable[str]) -> str:
    """Ask for the newest point of every series.

    There is a statement for each measurement: one over all of them reads a field that is a float in one and a string
    in another as one of the two, and loses the other.
    """
    return "; ".join(f"SELECT * FROM {identifier(name)} GROUP BY * ORDER BY time DESC LIMIT 1" for name in measurements)


def answered(document: bytes) -> list[Series]:
    """Return the series of one line of an answer. A database that does not exist has none.

    Raises:
        StoreUnavailable: InfluxDB answers with an error. What another server answers is for `explained`.
    """
    body = json.loads(document, parse_constant=_no_number)
    results = [body] if "error" in body else body.get("results", [])
    return [series for result in results for series in _series(result)]


def explained(decode: Callable[[A], T], answer: A) -> T:
    """Return what `decode` finds in an answer, or in one line of it.

    Raises:
        StoreUnavailable: InfluxDB answers with an error, or another server answers.
    """
    try:
        return decode(answer)
    except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError) as error:
        shown = repr(answer[:SHOWN] if isinstance(answer, bytes) else answer)
        raise StoreUnavailable(f"this is not an InfluxDB response: {shown[:SHOWN]}") from error


def names(answer: Iterable[Series]) -> list[str]:
    """Return the answer of SHOW MEASUREMENTS or SHOW TAG KEYS, sorted."""
    found = [name for series in answer for (name,) in series.values]
    if not all(isinstance(name, str) for name in found):
        raise TypeError("expected names")
    return sorted(found)


def field_types(answer: Iterable[Series]) -> FieldTypes:
    """Return the answer of SHOW FIELD KEYS. A field of several types has the one that InfluxQL reads it as."""
    types: FieldTypes = {}
    for series in answer:
        found = sorted(series.values, key=lambda pair: _rank(pair[1]), reverse=True)
        types.setdefault(series.measurement, {}).update((str(name), str(kind)) for name, kind in found)
    return types


def downsampled(types: Mapping[str, str]) -> dict[str, str]:
    """Return the types that the windows of a downsampled query have: means are floats."""
    return {name: "float" if kind in _NUMBERS else kind for name, kind in types.items()}


def rows(series: Series, types: Mapping[str, str]) -> Iterator[Row]:
    """Yield the rows of a series, each value in its field's own type: JSON makes 21.0 and 21 the same."""
    tags = {key: value for key, value in series.tags.items() if value}
    columns = series.columns[1:]
    convert = [_CONVERT.get(types.get(name, ""), _unchanged) for name in columns]
    for time_ns, *values in series.values:
        if not isinstance(time_ns, int) or not LOWEST <= time_ns <= HIGHEST:
            raise ValueError("expected a time in nanoseconds since 1970")
        fields = {
            name: to(value) for name, to, value in zip(columns, convert, values, strict=True) if value is not None
        }
        if fields:
            yield Row(time_ns, tags, fields)


def _series(result: Mapping[str, Any]) -> Iterator[Series]:
    error = result.get("error")
    if error is not None and NOT_FOUND not in error:
        raise StoreUnavailable(f"InfluxDB could not answer: {error}")
    for found in result.get("series", ()):
        name, tags, columns = found.get("name", ""), found.get("tags") or {}, found["columns"]
        if not all(isinstance(text, str) for text in (name, *tags.keys(), *tags.values(), *columns)):
            raise TypeError("expected names")
        values = found.get("values", ())
        if not isinstance(values, list | tuple):
            raise TypeError("expected rows")
        yield Series(name, tags, columns, values)


def _no_number(text: str) -> float:
    raise ValueError(f"expected a number; got {text}")


def _integer(value: Any) -> int:
    number = int(value)
    if not -(1 << 63) <= number < 1 << 63:
        raise OverflowError("expected an integer of 64 bits")
    return number


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError("expected a boolean")
    return value


def _rank(kind: str) -> int:
    return _STRONGEST.index(kind) if kind in _STRONGEST else len(_STRONGEST)


def _unchanged(value: FieldValue) -> FieldValue:
    return value


_CONVERT: dict[str, Callable[[Any], FieldValue]] = {
    "float": float,
    "integer": _integer,
    "string": str,
    "boolean": _boolean,
}
