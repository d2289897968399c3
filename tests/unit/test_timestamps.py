"""Times as devices write them, to ns since 1970 and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.timestamps import MAX_NS, NS, from_number, from_rfc3339, looks_like, to_rfc3339

DAY = 86_400 * NS


@pytest.mark.parametrize(
    ("value", "unit", "time_ns"),
    [
        (1_795_000_000, "s", 1_795_000_000 * NS),
        (1_795_000_000.25, "s", 1_795_000_000_250_000_000),
        (1_795_000_000_123, "ms", 1_795_000_000_123_000_000),
        (1_795_000_000_123_456, "us", 1_795_000_000_123_456_000),
        (1_795_000_000_123_456_789, "ns", 1_795_000_000_123_456_789),
        (-1, "s", -NS),
        (0.0000001, "s", 0),
        (MAX_NS, "ns", MAX_NS),
        (MAX_NS + 1, "ns", None),
        (-MAX_NS - 1, "ns", None),
        (10**30, "s", None),
        (1e19, "s", None),
        (1e300, "ms", None),
        (float("inf"), "s", None),
        (float("nan"), "s", None),
    ],
)
def test_numbers(value: float, unit: str, time_ns: int | None) -> None:
    """A count of its unit is a time to the µs; a value beyond 64 bits of ns is not."""
    assert from_number(value, unit) == time_ns


@pytest.mark.parametrize(
    ("text", "time_ns"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-11-18T13:06:40Z", 1_795_007_200 * NS),
        ("2026-11-18t13:06:40z", 1_795_007_200 * NS),
        ("2026-11-18 13:06:40+00:00", 1_795_007_200 * NS),
        ("2026-11-18T15:06:40.5+02:00", 1_795_007_200 * NS + NS // 2),
        ("2026-11-18T13:06:40.123456789Z", 1_795_007_200_123_456_789),
        ("1969-12-31T23:59:59.999999999Z", -1),
        ("2026-11-18T13:06:40", None),
        ("2026-11-18", None),
        ("2026-11-18T13:06:40.1234567890Z", None),
        ("2026-02-30T00:00:00Z", None),
        ("2026-11-18T25:00:00Z", None),
        ("2026-11-18T13:06:40+24:00", None),
        ("0001-01-01T00:00:00+01:00", None),
        ("9999-12-31T23:59:59Z", None),
        ("２０２６-11-18T13:06:40Z", None),
        ("2026-11-18T13:06:40Z\n", None),
        ("", None),
    ],
)
def test_rfc3339(text: str, time_ns: int | None) -> None:
    """A date, a time and an offset, to the ns; anything else is not a time."""
    assert from_rfc3339(text) == time_ns


@pytest.mark.parametrize(
    ("time_ns", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (NS // 2, "1970-01-01T00:00:00.500Z"),
        (1_795_007_200_123_456_000, "2026-11-18T13:06:40.123456Z"),
        (1_795_007_200_123_456_789, "2026-11-18T13:06:40.123456789Z"),
        (-1, "1969-12-31T23:59:59.999999999Z"),
    ],
)
def test_to_rfc3339(time_ns: int, text: str) -> None:
    """Times are written with as many digits as they have."""
    assert to_rfc3339(time_ns) == text


@given(st.integers(-MAX_NS, MAX_NS))
def test_rfc3339_round_trip(time_ns: int) -> None:
    """Every time that is written is read back as itself."""
    assert from_rfc3339(to_rfc3339(time_ns)) == time_ns


@pytest.mark.parametrize(
    ("value", "unit"),
    [
        (1_795_000_000, "s"),
        (1_795_000_000.5, "s"),
        (1_795_000_000_000, "ms"),
        (1_795_000_000_000_000, "us"),
        (1_795_000_000_000_000_000, "ns"),
        (42, None),
        (10**30, None),
    ],
)
def test_looks_like(value: float, unit: str | None) -> None:
    """The unit in which a number would be a time of these days."""
    now = 1_795_000_000 * NS
    assert looks_like(value, now - DAY, now + DAY) == unit
