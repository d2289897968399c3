"""Faults of clocks, recognised by how far a clock is off. Pure.

Offsets are a device's time minus the gateway's, in ns.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum

from gateway.timestamps import NS, NS_PER, UNITS

MINUTE, HOUR, DAY = 60 * NS, 3600 * NS, 86_400 * NS
NEAR = MINUTE
"""A clock that is right except for its zone is that near."""
STEADY = 3
"""Offsets on each side of a step that have to agree."""

_EPOCHS = {
    "of NTP (1900)": 2_208_988_800 * NS,
    "of FAT and GPS (1980)": -315_532_800 * NS,
    "of GPS (6 January 1980)": -315_964_800 * NS,
    "of Zigbee, IEC 60870 and many RTCs (2000)": -946_684_800 * NS,
    "of Apple's devices (2001)": -978_307_200 * NS,
}
_ROLLOVER = 1024 * 7 * DAY
_LEAP_SECONDS = {18: "GPS", 37: "TAI"}

_ODD_ZONES = {5.75, 8.75, 12.75}


class ClockFault(StrEnum):
    """Faults of a clock that are recognised by name."""

    WRONG_UNIT = "wrong_unit"
    NEVER_SET = "never_set"
    WRONG_EPOCH = "wrong_epoch"
    WEEK_ROLLOVER = "week_rollover"
    DAY_AND_MONTH = "day_and_month"
    WRONG_YEAR = "wrong_year"
    ZONE = "zone"
    DAYLIGHT_SAVING = "daylight_saving"
    TWELVE_HOURS = "twelve_hours"
    LEAP_SECONDS = "leap_seconds"
    DRIFT = "drift"
    STUCK = "stuck"
    JUMPS = "jumps"
    AHEAD = "ahead"
    BEHIND = "behind"


Found = tuple[ClockFault, str]
"""A fault, and what is wrong and what to do about it, in words."""


def gross(at_ns: int, now: int, unit: str) -> Found | None:
    """Find a clock that is wrong by more than a day. `now` is its offset at `at_ns`, `unit` that of its rule's time."""
    if abs(now) <= DAY:
        return None
    time_ns = at_ns + now
    for sent, size in NS_PER.items():
        if unit in NS_PER and sent != unit and abs(time_ns * size // NS_PER[unit] - at_ns) <= 2 * DAY:
            return ClockFault.WRONG_UNIT, f"it sends {UNITS[sent]}, and its rule says {UNITS[unit]}"
    for name, offset in _EPOCHS.items():
        if abs(now - offset) <= HOUR:
            return ClockFault.WRONG_EPOCH, f"it counts from the epoch {name}: count from 1970"
    if abs(now + _ROLLOVER) <= DAY or abs(now + 2 * _ROLLOVER) <= DAY:
        return ClockFault.WEEK_ROLLOVER, "it is 1024 weeks behind, as an old GPS receiver is: update its firmware"
    try:
        sent_at, arrived = datetime.fromtimestamp(time_ns / NS, UTC), datetime.fromtimestamp(at_ns / NS, UTC)
    except (ValueError, OverflowError, OSError):
        return (ClockFault.AHEAD if now > 0 else ClockFault.BEHIND), "its time is no date that exists: set its clock"
    return _misread(sent_at, arrived) or _far(now, sent_at)


def _misread(sent_at: datetime, arrived: datetime) -> Found | None:
    """Find a date with parts in the wrong places."""
    is_same_clock = abs((sent_at - sent_at.replace(hour=arrived.hour, minute=arrived.minute)).total_seconds()) <= 300
    if is_same_clock and (sent_at.month, sent_at.day) == (arrived.day, arrived.month):
        return ClockFault.DAY_AND_MONTH, "day and month stand in each other's place: send YYYY-MM-DD"
    if is_same_clock and (sent_at.month, sent_at.day) == (arrived.month, arrived.day):
        return ClockFault.WRONG_YEAR, f"the year is {sent_at.year}: is it taken from a build date?"
    return None


def _far(now: int, sent_at: datetime) -> Found:
    if now > 0:
        return ahead(now)
    if now < -180 * DAY:
        begins = f"it is {sent_at:%Y-%m-%d} there"
        return ClockFault.NEVER_SET, f"{begins}: its clock was never set, or its battery is empty; set it at the start"
    return ClockFault.BEHIND, f"it is {span(-now)} behind: set it (NTP)"


def step(offsets: Sequence[int]) -> Found | None:
    """Find one step between two steady clocks, as of daylight saving time."""
    steps = {i: abs(offsets[i] - offsets[i - 1]) for i in range(STEADY, len(offsets) - STEADY + 1)}
    if not steps:
        return None
    at = max(steps, key=lambda i: steps[i])
    height = steps[at]
    for side in (offsets[at - STEADY : at], offsets[at : at + STEADY]):
        if max(side) - min(side) > max(2 * NS, height // 50):
            return None
    if abs(height - HOUR) <= NEAR:
        return ClockFault.DAYLIGHT_SAVING, "it jumped by an hour, as local time does twice a year: send UTC"
    if abs(height - 12 * HOUR) <= NEAR:
        return ClockFault.TWELVE_HOURS, "it jumped by 12 hours: does it count to 12, without AM and PM?"
    return None


def zone(now: int) -> Found | None:
    """Find a clock that is right except for its time zone."""
    hours = round(now / HOUR * 4) / 4
    is_zone = hours and abs(hours) <= 14 and (hours % 0.5 == 0 or hours in _ODD_ZONES)
    if not is_zone or abs(now - int(hours * HOUR)) > NEAR:
        return None
    minutes = round(abs(hours) * 60)
    name = f"UTC{'+' if hours > 0 else '-'}{minutes // 60:02}:{minutes % 60:02}"
    return ClockFault.ZONE, f"it sends the local time of {name} as if it were UTC: send UTC, or the offset with it"


def leap(now: int) -> Found | None:
    """Find a clock without leap seconds."""
    for seconds, scale in _LEAP_SECONDS.items():
        if abs(now - seconds * NS) <= NS // 2:
            return ClockFault.LEAP_SECONDS, f"it is {seconds} s ahead, as {scale} time is: subtract the leap seconds"
    return None


def ahead(now: int) -> Found:
    """Return the fault of a clock that is ahead for no known reason."""
    return ClockFault.AHEAD, f"it is {span(now)} ahead: synchronise it (NTP)"


def span(ns: int) -> str:
    """Return a time span for people: `2.5 h`."""
    for size, unit in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min")):
        if ns >= 2 * size:
            return f"{ns / size:.3g} {unit}"
    return f"{ns / NS:.3g} s"
