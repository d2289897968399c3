"""The simulated physics: possible, believable, and the same for the same seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.charging import Connector, MeterReading, State
from devices.signals import DAY, Irrigation, Room, Walk, battery, daily, drift

START = 1_795_392_000.0  # 2026-11-23T00:00:00Z
NOON = START + DAY / 2


def moments(days: float, step: float) -> Iterator[float]:
    return (START + place * step for place in range(int(days * DAY / step)))


def charged(seed: int, days: float = 3, step: float = 10) -> list[MeterReading]:
    connector = Connector(Random(seed))
    return [connector.step(now) for now in moments(days, step)]


@given(now=st.floats(0, 4e9), low=st.floats(-50, 50), swing=st.floats(0, 100), peak=st.floats(0, 24))
def test_daily_cycle_stays_within_its_bounds(now: float, low: float, swing: float, peak: float) -> None:
    """A daily cycle never leaves the range that it was given."""
    assert low - 1e-6 <= daily(now, low, low + swing, peak) <= low + swing + 1e-6


def test_daily_cycle_peaks_at_its_hour_and_repeats() -> None:
    """A cycle is highest at its peak hour, lowest twelve hours later, and the same a day later."""
    assert daily(NOON, 10, 20, peak_hour=12) == pytest.approx(20)
    assert daily(START, 10, 20, peak_hour=12) == pytest.approx(10)
    assert daily(NOON + DAY, 10, 20, peak_hour=12) == pytest.approx(20)


@given(age=st.floats(0, 1e9), per_day=st.floats(-10, 10), limit=st.floats(0.01, 10))
def test_drift_is_bounded(age: float, per_day: float, limit: float) -> None:
    """However old a sensor is, it is never further off than its limit."""
    assert abs(drift(age, per_day, limit)) <= limit


def test_battery_runs_down_and_is_replaced() -> None:
    """A cell's voltage falls all its life, from full to empty; then a fresh one is in."""
    volts = [battery(age, lifetime=1000) for age in range(1000)]
    assert all(later < earlier for earlier, later in pairwise(volts))
    assert volts[0] == pytest.approx(4.15)
    assert volts[-1] == pytest.approx(3.3, abs=0.01)
    assert battery(1000, lifetime=1000) == volts[0]


@given(seed=st.integers(), spread=st.floats(0.01, 10), steps=st.lists(st.floats(-100, 1e5), max_size=50))
def test_walk_is_bounded_even_when_the_clock_jumps(seed: int, spread: float, steps: list[float]) -> None:
    """Noise stays within three times its spread, also when the clock jumps, back too."""
    walk, now = Walk(Random(seed), spread, memory=60), START
    for step in steps:
        now += step
        assert abs(walk.step(now)) <= 3 * spread


def test_co2_follows_people() -> None:
    """A room's CO2 lies between outdoor air and a full room, and is higher at noon than at night."""
    room = Room(Random(1), seats=8)
    by_hour: dict[int, list[float]] = {}
    for now in moments(days=5, step=60):
        by_hour.setdefault(int(now % DAY // 3600), []).append(room.step(now))
    everything = [co2 for values in by_hour.values() for co2 in values]
    assert min(everything) >= Room.OUTDOORS
    assert max(everything) <= Room.OUTDOORS + 8 * Room.PER_PERSON
    assert sum(by_hour[13]) > 1.3 * sum(by_hour[2])


@given(phase=st.floats(0, 1), now=st.floats(1.7e9, 2e9))
def test_moisture_rises_only_while_the_pump_runs(phase: float, now: float) -> None:
    """The soil gets wetter while the pump runs, and drier while it does not, within its bounds."""
    bed = Irrigation(phase)
    before, after = bed.moisture(now), bed.moisture(now + 1)
    assert bed.dry - 1e-6 <= before <= bed.wet + 1e-6
    if bed.running(now) and bed.running(now + 1):
        assert after > before
    if not bed.running(now) and not bed.running(now + 1):
        assert after < before


def test_meter_obeys_physics() -> None:
    """Power is voltage times current, current flows only while charging, and the energy never falls."""
    readings = charged(seed=7)
    for reading in readings:
        assert reading.power == pytest.approx(reading.voltage * reading.current, abs=0.06)
        assert reading.state is State.CHARGING or reading.current == 0
        assert reading.locked == (reading.state in (State.CHARGING, State.FINISHED))
        assert 220 <= reading.voltage <= 240
        assert 0 <= reading.current <= 33
    assert all(later.energy >= earlier.energy for earlier, later in pairwise(readings))


def test_energy_is_the_sum_of_the_power() -> None:
    """What the counter gained is the power summed over the time, to the watt-hour."""
    readings = charged(seed=3, days=1)
    summed = sum(reading.power for reading in readings[:-1]) * 10 / 3600
    assert readings[-1].energy - readings[0].energy == pytest.approx(summed, abs=1)


def test_charging_passes_through_its_states_in_order() -> None:
    """A session goes idle, preparing, charging, finished, idle, and all of them are seen."""
    order = list(State)
    states = [reading.state for reading in charged(seed=5, step=1, days=0.5)]
    assert set(states) == set(State)
    for earlier, later in pairwise(states):
        assert later in (earlier, order[(order.index(earlier) + 1) % len(order)])


def _walked(rng: Random) -> list[object]:
    walk = Walk(rng, 1, 60)
    return [walk.step(now) for now in moments(1, 600)]


def _breathed(rng: Random) -> list[object]:
    room = Room(rng, 6)
    return [room.step(now) for now in moments(1, 600)]


def _charged(rng: Random) -> list[object]:
    connector = Connector(rng)
    return [connector.step(now) for now in moments(1, 600)]


@pytest.mark.parametrize("signal", [_walked, _breathed, _charged])
def test_signals_are_deterministic(signal: Callable[[Random], list[object]]) -> None:
    """The same seed gives the same signal, another seed another one."""
    assert signal(Random(1)) == signal(Random(1))
    assert signal(Random(1)) != signal(Random(2))
