"""Tests of gateway.state.clocks: fleets of simulated devices, healthy and with planted faults."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from gateway.state.clock_faults import DAY, HOUR, MINUTE, ClockFault
from gateway.state.clocks import Clock, ClockHistory
from gateway.timestamps import NS

START = 1_793_866_500 * NS  # 2026-11-05
FLEET = 40

Observations = Iterator[tuple[int, int]]
"""Arrival of a batch and the newest time in it, both ns since 1970."""
Plant = Callable[[random.Random], Observations]


def latency(rng: random.Random) -> int:
    """Return a network's usual delay, now and then seconds."""
    return int((rng.uniform(0.02, 0.3) + (rng.uniform(1, 5) if rng.random() < 0.03 else 0)) * NS)


def sent(rng: random.Random, messages: int = 300, least: int = 1) -> Iterator[int]:
    """Yield the true times at which a device sends, at its own interval of at least so many seconds."""
    now, interval = START + rng.randrange(DAY), max(least, rng.choice([1, 5, 10, 60, 300]))
    for _ in range(messages):
        now += int(interval * NS * rng.uniform(0.95, 1.05))
        yield now


def with_offset(offset: Callable[[random.Random], Callable[[int], int]], least: int = 1) -> Plant:
    """Return devices whose clock is off by a function of the true time, made once for each device."""

    def plant(rng: random.Random) -> Observations:
        at = offset(rng)
        for now in sent(rng, least=least):
            yield now + latency(rng), now + at(now)

    return plant


def constant(choose: Callable[[random.Random], float]) -> Plant:
    """Return devices whose clock is off by seconds that are chosen once."""

    def offset(rng: random.Random) -> Callable[[int], int]:
        seconds = choose(rng)
        return lambda _now: int(seconds * NS)

    return with_offset(offset)


def judged(observations: Observations, unit: str = "ms") -> list[Clock]:
    """Return every judgement of a device."""
    history = ClockHistory(unit)
    return [history.judge() for arrived, time in observations if history.observe(arrived, time)]


# ---------------------------------------------------------------------- healthy devices


def synchronised(rng: random.Random) -> Observations:
    """NTP: within tens of milliseconds, corrected now and then."""
    error = 0
    for now in sent(rng):
        error = error + rng.randrange(-2, 4) * NS // 1000 if rng.random() > 0.1 else 0
        yield now + latency(rng), now + error


def back_from_an_outage(rng: random.Random) -> Observations:
    """A third of the readings wait, and are sent as fast as the link allows, oldest first."""
    times = list(sent(rng, 400))
    away = rng.randrange(50, 150)
    for now in times[:away]:
        yield now + latency(rng), now
    clock = times[away + rng.randrange(50, 150)]
    for now in times[away:]:
        clock = max(clock + int(rng.uniform(0.01, 0.5) * NS), now + latency(rng))
        yield clock, now


def batches(rng: random.Random) -> Observations:
    """Readings of a quarter of an hour in one message, the newest of them just taken."""
    for now in sent(rng):
        arrived = now * 1 + latency(rng)
        yield START + (arrived - START) * 20, START + (now - START) * 20


def averages(rng: random.Random) -> Observations:
    """Averages over an interval, with the time at which it began."""
    interval = rng.choice([MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR])
    now = START - START % HOUR
    for _ in range(100):
        now += interval
        yield now + latency(rng), now - interval


def slow_radio(rng: random.Random) -> Observations:
    """LoRa through a relay: always some seconds late."""
    late = rng.uniform(2, 30) * NS
    for now in sent(rng):
        yield now + int(late) + latency(rng), now


def set_at_the_start(rng: random.Random) -> Observations:
    """A clock that is set a moment after the start, as it should be."""
    for i, now in enumerate(sent(rng)):
        yield now + latency(rng), now - (rng.randrange(HOUR, 2 * HOUR) if i < 3 else 0)


def daily(rng: random.Random) -> Observations:
    """A message a day, with the time of its measurement in the morning."""
    for day in range(60):
        now = START + day * DAY + rng.randrange(10 * MINUTE)
        yield now + rng.randrange(8 * HOUR), now


HEALTHY = [synchronised, back_from_an_outage, batches, averages, slow_radio, set_at_the_start, daily]

# ---------------------------------------------------------------------- planted faults


def drifting(rng: random.Random) -> Callable[[int], int]:
    ppm, began = rng.choice([-1, 1]) * rng.uniform(300, 5000), START - rng.randrange(DAY)
    return lambda now: int((now - began) * ppm / 1e6)


def stepping(step: float, least: float = 0) -> Callable[[random.Random], Callable[[int], int]]:
    def offset(rng: random.Random) -> Callable[[int], int]:
        base = least * NS * rng.randrange(0, 3)
        calls = iter(range(1_000_000))
        at = rng.randrange(100, 200)
        return lambda _now: int(base + (step * NS if next(calls) >= at else 0))

    return offset


def jumping(rng: random.Random) -> Callable[[int], int]:
    ahead = rng.randrange(60, 900)
    calls = iter(range(1_000_000))
    return lambda _now: ahead * NS if next(calls) // 40 % 2 else 0


def stuck(rng: random.Random) -> Observations:
    times = list(sent(rng, least=5))
    for now in times:
        yield now + latency(rng), min(now, times[100])


def misread(change: Callable[[int], int]) -> Plant:
    def plant(rng: random.Random) -> Observations:
        for now in sent(rng):
            yield now + latency(rng), change(now)

    return plant


def day_and_month(now: int) -> int:
    seconds, rest = divmod(now, NS)
    moment = datetime.fromtimestamp(seconds, UTC)
    return int(moment.replace(month=moment.day, day=moment.month).timestamp()) * NS + rest


def never_set(rng: random.Random) -> Observations:
    began = rng.choice([86_400 * 30, 946_684_800 + 86_400 * 200, 1_577_836_800]) * NS
    first = None
    for now in sent(rng):
        first = first or now
        yield now + latency(rng), began + now - first


SICK: dict[str, tuple[ClockFault, Plant, str]] = {
    "seconds for milliseconds": (ClockFault.WRONG_UNIT, misread(lambda now: now // 1000), "ms"),
    "milliseconds for seconds": (ClockFault.WRONG_UNIT, misread(lambda now: now * 1000), "s"),
    "microseconds for nanoseconds": (ClockFault.WRONG_UNIT, misread(lambda now: now // 1000), "ns"),
    "never set": (ClockFault.NEVER_SET, never_set, "s"),
    "an epoch of 2000": (ClockFault.WRONG_EPOCH, misread(lambda now: now - 946_684_800 * NS), "s"),
    "an epoch of 1900": (ClockFault.WRONG_EPOCH, misread(lambda now: now + 2_208_988_800 * NS), "s"),
    "GPS weeks rolled over": (ClockFault.WEEK_ROLLOVER, misread(lambda now: now - 1024 * 7 * DAY), "s"),
    "day and month": (ClockFault.DAY_AND_MONTH, misread(day_and_month), "rfc3339"),
    "last year": (ClockFault.WRONG_YEAR, misread(lambda now: now - 365 * DAY), "rfc3339"),
    "local time": (ClockFault.ZONE, constant(lambda rng: 1800 * rng.choice([2, 4, 11, -10, -16, 7])), "rfc3339"),
    "daylight saving begins": (ClockFault.DAYLIGHT_SAVING, with_offset(stepping(3600, 3600)), "rfc3339"),
    "daylight saving ends": (ClockFault.DAYLIGHT_SAVING, with_offset(stepping(-3600, 3600)), "rfc3339"),
    "twelve hours": (ClockFault.TWELVE_HOURS, with_offset(stepping(-12 * 3600)), "rfc3339"),
    "GPS time": (ClockFault.LEAP_SECONDS, constant(lambda _rng: 18.2), "ms"),
    "drift": (ClockFault.DRIFT, with_offset(drifting, least=10), "ms"),
    "stuck": (ClockFault.STUCK, stuck, "ms"),
    "two masters": (ClockFault.JUMPS, with_offset(jumping), "ms"),
    "ahead": (ClockFault.AHEAD, constant(lambda rng: rng.uniform(40, 1500)), "ms"),
    "behind": (ClockFault.BEHIND, constant(lambda rng: -rng.uniform(700, 1500)), "ms"),
}


@pytest.mark.parametrize("kind", HEALTHY)
def test_a_healthy_fleet_has_no_fault(kind: Plant) -> None:
    """No healthy device is ever called ill, whatever the network does to its messages."""
    wrong = {}
    for seed in range(FLEET):
        if faults := {one.fault for one in judged(kind(random.Random(seed)))} - {None}:
            wrong[seed] = faults
    assert wrong == {}


@pytest.mark.parametrize("name", SICK)
def test_planted_faults_are_found_by_name(name: str) -> None:
    """At least 95 of 100 devices with a fault are found to have that one."""
    fault, plant, unit = SICK[name]
    found = [fault in {one.fault for one in judged(plant(random.Random(seed)), unit)} for seed in range(FLEET)]
    assert sum(found) >= 0.95 * FLEET
