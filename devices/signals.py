"""Plausible physical signals. Times are Unix seconds (UTC); everything is deterministic for a seeded Random.

Functions are pure. A class is used where the present depends on the past: its `step(now)` moves it to `now`
and returns the value there. If time runs backwards, it stays where it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

DAY = 86_400.0


def daily(now: float, low: float, high: float, peak_hour: float) -> float:
    """Return a daily cycle between `low` and `high` that is highest at `peak_hour` (UTC, 0 to 24)."""
    angle = math.tau * (now / DAY - peak_hour / 24)
    return (low + high) / 2 + (high - low) / 2 * math.cos(angle)


def drift(age: float, per_day: float, limit: float) -> float:
    """Return the error of an ageing sensor (`age` in seconds): `per_day` at first, never more than `limit` > 0."""
    return limit * math.tanh(per_day * age / DAY / limit)


def battery(age: float, lifetime: float, full: float = 4.15, empty: float = 3.3) -> float:
    """Return the volts of a lithium cell: a long slope, then a knee; an empty cell is replaced."""
    spent = (age % lifetime) / lifetime
    return full - (full - empty) * (0.7 * spent + 0.3 * spent**8)


def clamp(value: float, low: float, high: float) -> float:
    return max(low, min(high, value))


class Elapsed:
    """Seconds since the last call; 0 at the first, and if the clock was set back."""

    def __init__(self) -> None:
        self._then: float | None = None

    def step(self, now: float) -> float:
        elapsed = 0.0 if self._then is None else max(0.0, now - self._then)
        self._then = now
        return elapsed


class Walk:
    """Noise with a memory: a random walk that is pulled back to 0 (Ornstein-Uhlenbeck).

    `spread` is its standard deviation, `memory` the seconds after which it has forgotten its value. It stays
    within three times the spread: unlike a Gaussian, an instrument has bounds.
    """

    def __init__(self, rng: Random, spread: float, memory: float) -> None:
        self._rng, self._spread, self._memory = rng, spread, memory
        self._elapsed = Elapsed()
        self._value = clamp(rng.gauss(0, spread), -3 * spread, 3 * spread)

    def step(self, now: float) -> float:
        kept = math.exp(-self._elapsed.step(now) / self._memory)
        moved = self._value * kept + self._rng.gauss(0, self._spread * math.sqrt(1 - kept * kept))
        self._value = clamp(moved, -3 * self._spread, 3 * self._spread)
        return self._value


class Room:
    """A room: people come and go with the time of day, and the CO2 follows with the delay of the ventilation."""

    OUTDOORS = 420.0  # ppm
    PER_PERSON = 85.0  # ppm, once the air has settled
    VENTILATION = 900.0  # seconds until about two thirds of a change have arrived
    STAY = 240.0  # mean seconds between changes of who is in the room

    def __init__(self, rng: Random, seats: int) -> None:
        self._rng, self._seats = rng, seats
        self._elapsed = Elapsed()
        self.people: int | None = None
        self._co2 = self.OUTDOORS

    def step(self, now: float) -> float:
        """Return the CO2 in ppm, from OUTDOORS up to that of a full room."""
        elapsed = self._elapsed.step(now)
        if self.people is None:
            self.people = self._people_at(now)
            self._co2 = self._settled(self.people)
        elif self._rng.random() < 1 - math.exp(-elapsed / self.STAY):
            self.people = self._people_at(now)
        missing = self._settled(self.people) - self._co2
        self._co2 += missing * (1 - math.exp(-elapsed / self.VENTILATION))
        return self._co2

    def _people_at(self, now: float) -> int:
        presence = max(0.02, daily(now, low=-0.4, high=0.8, peak_hour=13))
        return sum(self._rng.random() < presence for _ in range(self._seats))

    def _settled(self, people: int) -> float:
        return self.OUTDOORS + self.PER_PERSON * people


@dataclass(frozen=True, slots=True)
class Irrigation:
    """A bed of a vertical farm: a pump floods it for `run` seconds in each `period`, then the soil dries.

    The pump and the probes of a bed share it, so that the moisture jumps when the pump reports that it runs.
    `phase` (0 to 1) is the bed's place in its period at the epoch.
    """

    phase: float
    period: float = 480.0
    run: float = 45.0
    dry: float = 54.0  # percent
    wet: float = 71.0  # percent

    def running(self, now: float) -> bool:
        return self._at(now) < self.run

    def moisture(self, now: float) -> float:
        """Return the moisture in percent: it rises while the pump runs, then falls, quickly at first."""
        at = self._at(now)
        if at < self.run:
            return self.dry + (self.wet - self.dry) * at / self.run
        drying = (at - self.run) / (self.period - self.run)
        return self.wet - (self.wet - self.dry) * (1 - math.exp(-1.5 * drying)) / (1 - math.exp(-1.5))

    def _at(self, now: float) -> float:
        return (now + self.phase * self.period) % self.period
