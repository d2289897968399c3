"""Mistakes of device developers, each as a function of a good payload.

A fault takes good telemetry and returns the bytes of a bad message, which breaks the rules of its channel for
one reason. Only one record of an array is spoiled (a truncated message is lost as a whole).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from random import Random
from typing import Any

from devices.telemetry import Channel, Clock, Message, Record, Telemetry, encode

BIRTH_OF_THE_CLOCK = 978_307_200.0  # 2001-01-01T00:00:00Z, where many real-time clocks start
YEAR = 365 * 86_400.0


@dataclass(frozen=True, slots=True)
class Fault:
    """A mistake. `story` is what happened in the device."""

    name: str
    story: str
    applies: Callable[[Channel], bool]
    spoil: Callable[[Telemetry, float, Random], bytes]


def misbehave(telemetry: Telemetry, now: float, rng: Random) -> Message:
    """Return a bad version of the message, with one of the faults that apply to it."""
    fault = rng.choice([fault for fault in FAULTS if fault.applies(telemetry.channel)])
    return Message(telemetry.topic, fault.spoil(telemetry, now, rng), fault.name)


def _always(_: Channel) -> bool:
    return True


def _has_clock(channel: Channel) -> bool:
    return channel.clock is not None


def _has_epoch(channel: Channel) -> bool:
    return channel.clock is not None and channel.clock.unit != "rfc3339"


def _truncated(telemetry: Telemetry, _now: float, rng: Random) -> bytes:
    payload = encode(telemetry.body)
    return payload[: rng.randint(1, len(payload) - 1)]


def _in_one_record(
    edit: Callable[[Record, Channel, float, Random], None],
) -> Callable[[Telemetry, float, Random], bytes]:
    def spoil(telemetry: Telemetry, now: float, rng: Random) -> bytes:
        body = copy.deepcopy(telemetry.body)
        edit(rng.choice(body) if isinstance(body, list) else body, telemetry.channel, now, rng)
        return encode(body)

    return spoil


def _with_number(change: Callable[[Any], Any]) -> Callable[[Telemetry, float, Random], bytes]:
    """Spoil one of the record's numbers."""

    def edit(record: Record, channel: Channel, _now: float, rng: Random) -> None:
        place, key = _find(record, rng.choice(channel.numbers))
        place[key] = change(place[key])

    return _in_one_record(edit)


def _with_time(change: Callable[[Clock, float], Any]) -> Callable[[Telemetry, float, Random], bytes]:
    """Write another time into the record."""

    def edit(record: Record, channel: Channel, now: float, _rng: Random) -> None:
        if channel.clock is not None:
            record[channel.clock.key] = change(channel.clock, now)

    return _in_one_record(edit)


def _find(record: Record, pointer: str) -> tuple[Record, str]:
    """Return the object that holds what a JSON Pointer (without escapes) points at, and its key there."""
    *parents, key = pointer.removeprefix("/").split("/")
    for parent in parents:
        record = record[parent]
    return record, key


def _drop_number(record: Record, channel: Channel, _now: float, rng: Random) -> None:
    place, key = _find(record, rng.choice(channel.numbers))
    del place[key]


def _add_field(record: Record, _channel: Channel, _now: float, rng: Random) -> None:
    record[rng.choice(("uptime", "heap_free", "debug"))] = rng.randint(1, 65_535)


def _other_unit(clock: Clock, now: float) -> Any:
    return Clock(clock.key, "s" if clock.unit == "ms" else "ms").write(round(now))


FAULTS = (
    Fault("truncated", "the buffer was too small: the JSON ends in the middle", _always, _truncated),
    Fault(
        "out-of-range",
        "the sensor came loose, and its driver answers -127, a number that means 'no sensor'",
        _always,
        _with_number(lambda number: -127 if isinstance(number, int) else -127.0),
    ),
    Fault("number-as-text", "formatted with printf, and quoted like a string", _always, _with_number(str)),
    Fault(
        "not-a-number",
        "a division by zero, written as NaN, which JSON does not know",
        _always,
        _with_number(lambda _: float("nan")),
    ),
    Fault("missing-field", "one sensor did not answer in time", _always, _in_one_record(_drop_number)),
    Fault("unknown-field", "a new firmware sends more than agreed", attrgetter("closed"), _in_one_record(_add_field)),
    Fault(
        "clock-of-2001",
        "the clock's battery is empty, and the network time has not arrived yet",
        _has_clock,
        _with_time(lambda clock, now: clock.write(BIRTH_OF_THE_CLOCK + now % 3600)),
    ),
    Fault("clock-in-wrong-unit", "seconds for milliseconds, or the reverse", _has_epoch, _with_time(_other_unit)),
    Fault(
        "clock-ahead",
        "somebody set the clock by hand, to next year",
        _has_clock,
        _with_time(lambda clock, now: clock.write(now + YEAR)),
    ),
)
