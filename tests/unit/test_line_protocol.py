"""Readings as line protocol; tests/property/test_line_protocol.py reads them back with an independent parser."""

from __future__ import annotations

import pytest

from gateway.line_protocol import device_of, encode, field_set, series_key, tag_is_writable
from gateway.model import Reading


def reading(device: str = "th-1", tags: dict[str, str] | None = None) -> Reading:
    return Reading("acme", device, "climate", tags or {}, {"value": 1.5}, 42)


def test_encode() -> None:
    """A line has the measurement, the tags by name, the fields by type, and the time."""
    one = Reading(
        "acme", "th-1", "climate", {"site": "b", "fw": "1 2"}, {"t": 1.0, "n": 3, "on": True, "s": 'a"\\'}, -7
    )
    assert encode(one) == r'climate,device=th-1,fw=1\ 2,site=b t=1.0,n=3i,on=true,s="a\"\\" -7'


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e300, "v=1e+300"),
        (-0.0, "v=-0.0"),
        (0.1, "v=0.1"),
        (-(1 << 63), f"v={-(1 << 63)}i"),
        (False, "v=false"),
        ("", 'v=""'),
        ("a b,c=d\n", 'v="a b,c=d\n"'),
    ],
)
def test_values(value: float | str, text: str) -> None:
    """Each type of value is written so that InfluxDB reads the same value back."""
    assert field_set({"v": value}) == text


def test_series_key_has_no_order() -> None:
    """The same tags are the same series, in any order; empty ones are left out."""
    a, b, empty = ("a", "1"), ("b", "2"), ("c", "")
    assert series_key("m", (a, b, empty)) == series_key("m", (b, a)) == "m,a=1,b=2"


def test_series_key_escapes() -> None:
    """Commas, spaces and equals signs in names and values are escaped."""
    assert series_key("a b,c", (("x=y", "1,2 3=4"),)) == r"a\ b\,c,x\=y=1\,2\ 3\=4"


@pytest.mark.parametrize("device", ["th-1", "a.b:c@d", "Gerät_7", "x" * 64, "a b", "a,b", "a=b", "a\\b"])
@pytest.mark.parametrize(
    "tags", [{}, {"a": ",device=evil"}, {"a": "x\\,device=evil"}, {"bed": "b 2"}, {"zone": "device=z"}]
)
def test_device_of(device: str, tags: dict[str, str]) -> None:
    """The device of a line is found, whatever the names and the other tags are like."""
    assert device_of(encode(reading(device, tags)).encode()) == device


def test_device_of_something_else() -> None:
    """A line without a device has none."""
    assert device_of(b"climate value=1 1") == ""


@pytest.mark.parametrize("value", ["", "a", "a b", "a\\b", "é", "\xa0", "=,"])
def test_writable_tags(value: str) -> None:
    """A value that can be escaped can be a tag."""
    assert tag_is_writable(value)


@pytest.mark.parametrize("value", ["a\n", "\r", "\0", "\x7f", "\x85", "\u2028", "\u2029", "a\\", "\\"])
def test_unwritable_tags(value: str) -> None:
    """Line breaks, control characters and a backslash at the end cannot be written."""
    assert not tag_is_writable(value)


def test_device_of_a_damaged_line() -> None:
    """A line that a disk has damaged has a device, or none; it is no error."""
    assert device_of(b"climate,device=th-1 t=\xff 1") == "th-1"
    assert device_of(b"\xff\xfe") == ""
