"""A connector of a charging point: a state machine with an electricity meter.

    idle -> preparing -> charging -> finished -> idle
            (cable in)               (cable in)

The meter's invariants: power is voltage times current; current flows only while charging; the energy counter
never decreases.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from random import Random

from devices.signals import Elapsed, Walk, clamp


class State(StrEnum):
    """States of a connector."""

    IDLE = "idle"
    PREPARING = "preparing"
    CHARGING = "charging"
    FINISHED = "finished"


NEXT = {
    State.IDLE: State.PREPARING,
    State.PREPARING: State.CHARGING,
    State.CHARGING: State.FINISHED,
    State.FINISHED: State.IDLE,
}

LASTS = {  # seconds, at least and at most: cargo bikes that top up between two tours
    State.IDLE: (60.0, 420.0),
    State.PREPARING: (5.0, 20.0),
    State.CHARGING: (180.0, 1500.0),
    State.FINISHED: (30.0, 240.0),
}

RATED = (10.0, 16.0, 32.0)  # ampere: two kinds of cargo bikes, and a small van
TAPER = 0.25  # the last part of a session, in which the battery takes less and less


@dataclass(frozen=True, slots=True)
class MeterReading:
    """A reading in volt, ampere and watt, with all watt-hours that the connector has ever delivered."""

    state: State
    locked: bool
    voltage: float
    current: float
    power: float
    energy: int


class Connector:
    """A connector with its meter; `step` moves it to a time."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._elapsed = Elapsed()
        self._grid = Walk(rng, spread=1.8, memory=120)
        self._ripple = Walk(rng, spread=0.05, memory=5)
        self._energy = rng.uniform(50_000, 900_000)
        self._power = 0.0
        self._state = State.IDLE
        self._since = self._until = 0.0
        self._rated = RATED[0]

    def step(self, now: float) -> MeterReading:
        """Return the meter's reading at `now`; the energy adds the last reading's power since then."""
        self._energy += self._power * self._elapsed.step(now) / 3600
        self._move_on(now)
        voltage = round(230 + self._grid.step(now), 1)
        current = round(self._current(now), 2)
        power = round(voltage * current, 1)
        self._power = power
        locked = self._state in (State.CHARGING, State.FINISHED)
        return MeterReading(self._state, locked, voltage, current, power, int(self._energy))

    def _move_on(self, now: float) -> None:
        if not self._until:  # switched on in the middle of a state
            self._enter(self._rng.choice(list(State)), now)
            self._until = now + (self._until - now) * self._rng.random()
        while now >= self._until:
            self._enter(NEXT[self._state], self._until)

    def _enter(self, state: State, at: float) -> None:
        self._state, self._since = state, at
        self._until = at + self._rng.uniform(*LASTS[state])
        if state is State.PREPARING:
            self._rated = self._rng.choice(RATED)

    def _current(self, now: float) -> float:
        if self._state is not State.CHARGING:
            return 0.0
        left = (self._until - now) / (self._until - self._since)
        wanted = self._rated * clamp(left / TAPER, 0.15, 1.0)
        return max(0.0, wanted + self._ripple.step(now))
