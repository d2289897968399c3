"""Times as devices write them -> ns since 1970 (UTC), and back to RFC 3339.

Floats are rounded to whole µs: a double near today's date in seconds cannot carry more.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

NS = 1_000_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
NS_PER = {"s": NS, "ms": 1_000_000, "us": 1_000, "ns": 1}
UNITS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
MAX_NS = (1 << 63) - 1


def from_number(value: float, unit: str) -> int | None:
    """Return the ns since 1970 of a count of `s`, `ms`, `us` or `ns`; None where it cannot be a time at all."""
    if isinstance(value, int):
        time_ns = value * NS_PER[unit]
    elif abs(value) < 1e20:
        time_ns = round(value * (NS_PER[unit] / 1000)) * 1000
    else:
        return None
    return time_ns if -MAX_NS <= time_ns <= MAX_NS else None


def from_rfc3339(text: str) -> int | None:
    """Return the ns since 1970 of `2026-11-23T08:15:30.123456789+01:00`; None where it is not RFC 3339."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        return None
    date, clock, fraction, offset = match.groups()
    try:
        moment = datetime.fromisoformat(f"{date}T{clock}{'+00:00' if offset in 'Zz' else offset}")
        since = moment - _EPOCH
    except (ValueError, OverflowError):
        return None
    time_ns = (since.days * 86_400 + since.seconds) * NS + int((fraction or "").ljust(9, "0"))
    return time_ns if -MAX_NS <= time_ns <= MAX_NS else None


def to_rfc3339(time_ns: int) -> str:
    """Return RFC 3339 in UTC, with as many digits as the time has: whole seconds, ms, µs or ns."""
    seconds, fraction = divmod(time_ns, NS)
    text = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    digits = f"{fraction:09d}"
    while digits.endswith("000"):
        digits = digits[:-3]
    return f"{text}.{digits}Z" if digits else f"{text}Z"


def looks_like(value: float, earliest_ns: int, latest_ns: int) -> str | None:
    """Return the unit in which `value` would be a time between the two: the one that a device probably sent."""
    for unit in NS_PER:
        time_ns = from_number(value, unit)
        if time_ns is not None and earliest_ns <= time_ns <= latest_ns:
            return unit
    return None
