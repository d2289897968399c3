r"""Line protocol -> its parts: the inverse of `gateway.line_protocol`, for just what that writes. Pure.

    climate,device=th-1,firmware=1.2 temperature=21.5,humidity=40.0 1763900000000000000
    `------------ series ----------' `---------- fields ----------' `-- time_ns -----'

In measurements, tags and field names a comma, space or equals sign right after a backslash belongs to the name; any
other backslash is literal. In strings `\"` and `\\` are escapes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from gateway.model import FieldValue

_SPACE = re.compile(rb"(?<!\\) ")
_COMMA = re.compile(rb"(?<!\\),")
_EQUALS = re.compile(rb"(?<!\\)=")
_FIELD = re.compile(rb'(.+?)(?<!\\)=("(?:[^"\\]|\\.)*"|[^",]+)(?:,|$)', re.DOTALL)
_IN_MEASUREMENT = re.compile(r"\\([, ])")
_IN_KEY = re.compile(r"\\([,= ])")
_IN_STRING = re.compile(r'\\(["\\])')

_SHOWN = 200
_BOOLEANS = {b"true": True, b"false": False}


class Line(NamedTuple):
    """One line. `series` and `names` stay escaped, as keys to look up."""

    series: bytes
    names: tuple[bytes, ...]
    values: list[FieldValue]
    time_ns: int


def parse(line: bytes) -> Line:
    """Parse one line; it has no line break at its end.

    Raises:
        ValueError: `gateway.line_protocol` does not write such a thing.
    """
    try:
        return _parse(line)
    except ValueError as error:
        raise ValueError(f"not line protocol: {line[:_SHOWN]!r}: {error}") from None


def parse_series(series: bytes) -> tuple[str, dict[str, str]]:
    """Return the measurement and the tags of a `Line.series`.

    Raises:
        ValueError: `gateway.line_protocol` does not write such a thing.
    """
    measurement, *tags = _COMMA.split(series)
    pairs = (_EQUALS.split(tag, 1) for tag in tags)
    return (
        _IN_MEASUREMENT.sub(r"\1", measurement.decode()),
        {parse_name(key): parse_name(value) for key, value in pairs},
    )


def parse_name(name: bytes) -> str:
    """Unescape a field's name, a tag's key or a tag's value."""
    return _IN_KEY.sub(r"\1", name.decode())


def _parse(line: bytes) -> Line:
    pairs: Iterable[Sequence[bytes]]
    if b"\\" in line or b'"' in line:
        series, rest = _SPACE.split(line, 1)
        fields, _, time = rest.rpartition(b" ")
        pairs = _quoted_pairs(fields)
    else:
        series, fields, time = line.split(b" ")
        pairs = (pair.split(b"=") for pair in fields.split(b","))
    names, values = [], []
    for name, text in pairs:
        names.append(name)
        values.append(_value(text))
    return Line(series, tuple(names), values, int(time))


def _quoted_pairs(fields: bytes) -> list[tuple[bytes, bytes]]:
    pairs: list[tuple[bytes, bytes]] = []
    at = 0
    while at < len(fields):
        match = _FIELD.match(fields, at)
        if match is None:
            raise ValueError(f"expected name=value at byte {at} of {fields!r}")
        pairs.append((match[1], match[2]))
        at = match.end()
    return pairs


def _value(text: bytes) -> FieldValue:
    last = text[-1:]
    if last == b"i":
        return int(text[:-1])
    if last == b'"':
        return _IN_STRING.sub(r"\1", text[1:-1].decode())
    known = _BOOLEANS.get(text)
    return float(text) if known is None else known
