"""Reading -> InfluxDB line protocol. Pure.

    climate,device=th-1,firmware=1.2 temperature=21.5,humidity=40.0 1763900000000000000

Tags are sorted by key (InfluxDB's advice for speed), time is in ns. Source: InfluxDB 2 "Line protocol"
reference. Two things cannot be written in it at all and are refused by `validate`: a control character in a tag, and
a tag with a backslash before a space or at its end.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from gateway.model import FieldValue, Reading

_DEVICE_TAG = re.compile(r"(?<!\\),device=((?:\\.|[^,\\ ])*)")
_ESCAPED = re.compile(r"\\([,= ])")

SERIES_KEPT = 65_536

_MEASUREMENT = str.maketrans({",": r"\,", " ": r"\ "})
_KEY = str.maketrans({",": r"\,", " ": r"\ ", "=": r"\="})
_STRING = str.maketrans({'"': r"\"", "\\": r"\\"})
_UNWRITABLE = re.compile(r"[\x00-\x1f\x7f\u0085\u2028\u2029]|\\(?= |$)")


def tag_is_writable(value: str) -> bool:
    r"""Whether line protocol can carry this tag value: no control characters, no \ before a space or at the end.

    InfluxDB looks for the end of a line with a cruder scan than for its parts: for it the tags end at `\ ` after
    another backslash, and a text that a device sent could then be read as lines of its own.
    """
    return _UNWRITABLE.search(value) is None


@lru_cache(SERIES_KEPT)
def series_key(measurement: str, tags: tuple[tuple[str, str], ...]) -> str:
    """`measurement,tag=value,…`: what names a series. `tags` in any order; empty values are left out."""
    pairs = (f",{key.translate(_KEY)}={value.translate(_KEY)}" for key, value in sorted(tags) if value)
    return measurement.translate(_MEASUREMENT) + "".join(pairs)


def field_set(fields: Mapping[str, FieldValue]) -> str:
    """`name=value,…` with each value written as its type asks."""
    return ",".join([f"{name.translate(_KEY)}={_WRITE[type(value)](value)}" for name, value in fields.items()])


def encode(reading: Reading) -> str:
    """One line, without its line break. The reading has at least one field, and no value is NaN or infinite."""
    return line(reading_key(reading), reading)


def reading_key(reading: Reading) -> str:
    """The series key of a reading."""
    return series_key(reading.measurement, (("device", reading.device), *reading.tags.items()))


def line(key: str, reading: Reading) -> str:
    """`encode`, for who has the series key already."""
    return f"{key} {field_set(reading.fields)} {reading.time_ns}"


def device_of(encoded: bytes) -> str:
    """The device that a line of ours is of."""
    match = _DEVICE_TAG.search(encoded.decode())
    return _ESCAPED.sub(r"\1", match[1]) if match else ""


def _string(value: FieldValue) -> str:
    return f'"{str(value).translate(_STRING)}"'


def _bool(value: FieldValue) -> str:
    return "true" if value else "false"


def _int(value: FieldValue) -> str:
    return f"{value}i"


_WRITE = {float: repr, int: _int, bool: _bool, str: _string}
