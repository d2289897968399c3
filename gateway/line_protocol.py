"""Reading -> InfluxDB line protocol. Pure.

    climate,device=th-1,firmware=1.2 temperature=21.5,humidity=40.0 1763900000000000000

Tags are sorted by key (InfluxDB's advice for speed), time is in ns. Source: InfluxDB 2 "Line protocol" reference. Two
things cannot be written in it at all and are rejected by `validate`: a control character in a tag, and a tag with a
backslash before a space or at its end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from sys import getsizeof
from typing import Any

from pydantic_core import to_json

from gateway.model import FieldValue, Reading

_DEVICE_TAG = re.compile(r"(?<!\\),device=((?:\\.|[^,\\ ])*)")
_ESCAPED = re.compile(r"\\([,= ])")

FORMATS = 256 << 10
"""Bytes of the formats that one rule's writer keeps: devices choose the names of members that no rule names."""

_MEASUREMENT = str.maketrans({",": r"\,", " ": r"\ "})
_KEY = str.maketrans({",": r"\,", " ": r"\ ", "=": r"\="})
_STRING = str.maketrans({'"': r"\"", "\\": r"\\"})
_UNWRITABLE = re.compile(r"[\x00-\x1f\x7f\u0085\u2028\u2029]|\\(?= |$)")


def tag_is_writable(value: str) -> bool:
    r"""Return whether line protocol can carry this tag value: no control characters, no \ before a space or at the end.

    InfluxDB finds the end of a line by a cruder scan than its parts: for that scan the tags end at `\ ` after another
    backslash, and a string from a device could then be read as lines of its own.
    """
    return _UNWRITABLE.search(value) is None


def series_key(measurement: str, tags: tuple[tuple[str, str], ...]) -> str:
    """Return `measurement,tag=value,…`, the name of a series. `tags` in any order; empty values are left out."""
    pairs = (f",{key.translate(_KEY)}={value.translate(_KEY)}" for key, value in sorted(tags) if value)
    return measurement.translate(_MEASUREMENT) + "".join(pairs)


def field_set(fields: Mapping[str, FieldValue]) -> str:
    """Return `name=value,…`, with each value in the form of its type."""
    return ",".join([f"{name.translate(_KEY)}={_WRITE[type(value)](value)}" for name, value in fields.items()])


class FieldWriter:
    """Writes the fields of one rule's readings as `field_set` does, by a format for each set of names, made once.

    `types` are the types of the rule's fields; any other field is written by the type of its value. `always`: each
    reading has all of them, in this order, and no others. `first` is called with each set of names, at least once.
    """

    def __init__(
        self,
        types: Mapping[str, type],
        *,
        always: bool = False,
        first: Callable[[Sequence[str]], None] = lambda _names: None,
    ) -> None:
        self._types = types
        self._first = first
        self._is_regular = always and str not in types.values()
        self._formats: dict[tuple[str, ...], tuple[str, bool]] = {}
        self._size = 0

    def __call__(self, fields: Mapping[str, FieldValue]) -> str:
        names = tuple(fields)
        found = self._formats.get(names) or self._add(names)
        if found[1]:
            return found[0] % tuple(_plain([*fields.values()]))
        return found[0] % tuple([_WRITE[type(value)](value) for value in fields.values()])

    def many(self, several: Sequence[Mapping[str, FieldValue]]) -> list[str]:
        """Return the fields of several readings, at least one: faster than one by one."""
        if not self._is_regular:
            return [self(fields) for fields in several]
        names = tuple(several[0])
        format_, _ = self._formats.get(names) or self._add(names)
        texts = iter(_plain([*chain.from_iterable([fields.values() for fields in several])]))
        return [format_ % values for values in zip(*[texts] * len(names), strict=True)]

    def _add(self, names: tuple[str, ...]) -> tuple[str, bool]:
        """Return the format for these names, and whether it takes what `_plain` returns: strings are not plain."""
        self._first(names)
        kinds = [self._types.get(name) for name in names]
        is_direct = all(kind in _DIRECT for kind in kinds)
        values = [_DIRECT[kind] if is_direct and kind in _DIRECT else "%s" for kind in kinds]
        keys = [name.translate(_KEY).replace("%", "%%") for name in names]
        format_ = ",".join(f"{key}={value}" for key, value in zip(keys, values, strict=True))
        size = sum(map(getsizeof, (names, format_, *names)))
        if self._size + size > FORMATS:
            self._formats.clear()
            self._size = 0
        self._size += size
        return self._formats.setdefault(names, (format_, is_direct))


def encode(reading: Reading) -> str:
    """Return one line, without its line break. The reading has at least one field, and no value is NaN or infinite."""
    return f"{reading_key(reading)} {field_set(reading.fields)} {reading.time_ns}"


def reading_key(reading: Reading) -> str:
    """Return the series key of a reading."""
    return series_key(reading.measurement, (("device", reading.device), *reading.tags.items()))


def device_of(encoded: bytes) -> str:
    """Return the device of a line that this module wrote, even if it was damaged since."""
    match = _DEVICE_TAG.search(encoded.decode("utf-8", "replace"))
    return _ESCAPED.sub(r"\1", match[1]) if match else ""


def _plain(values: list[FieldValue]) -> list[str]:
    """Return numbers and booleans as line protocol has them, which is as JSON has them: several times as fast as one by
    one in Python."""
    return to_json(values)[1:-1].decode().split(",")


_DIRECT: dict[type | None, str] = {float: "%s", int: "%si", bool: "%s"}
_WRITE: dict[type, Callable[[Any], str]] = {
    float: repr,
    int: lambda value: f"{value}i",
    bool: lambda value: "true" if value else "false",
    str: lambda value: f'"{value.translate(_STRING)}"',
}
