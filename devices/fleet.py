"""Fleet: its devices, and which of them misbehave; the same for the same seed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random

from devices.faults import misbehave
from devices.sensors import AirSensor, ChargingPoint, Pump, SoilProbe
from devices.signals import Irrigation
from devices.telemetry import Device, Message, Telemetry, encode

BED = 4  # devices in a greenbed bed; the second is the pump
SPOILED = 3  # every so many messages of a misbehaving device, one is wrong, from the first on


def _acme(number: int, seed: str) -> Device:
    name = f"air-{number:02}"
    return AirSensor(name, Random(f"{seed}/acme/{name}"))


def _voltwise(number: int, seed: str) -> Device:
    name = f"charger-{number:02}"
    return ChargingPoint(name, Random(f"{seed}/voltwise/{name}"))


def _greenbed(number: int, seed: str) -> Device:
    bed = f"bed-{(number - 1) // BED + 1}"
    irrigation = Irrigation(phase=Random(f"{seed}/greenbed/{bed}").random())
    if number % BED == 2:
        name = f"pump-{number:02}"
        return Pump(name, Random(f"{seed}/greenbed/{name}"), irrigation)
    name = f"probe-{number:02}"
    return SoilProbe(name, Random(f"{seed}/greenbed/{name}"), bed, irrigation)


FACTORIES: dict[str, Callable[[int, str], Device]] = {
    "acme": _acme,
    "voltwise": _voltwise,
    "greenbed": _greenbed,
}
"""Functions that make the device of a number (from 1 on), by startup."""


@dataclass(frozen=True, slots=True)
class Share:
    """Share of a startup's devices that misbehave: a `count`, or a `fraction` that is never rounded to none."""

    fraction: float = 0.0
    count: int = 0

    def of(self, devices: int) -> int:
        wanted = max(1, round(self.fraction * devices)) if self.fraction else self.count
        return min(wanted, devices)


class Unit:
    """A device of the fleet, as its MQTT client sees it: it turns a moment into messages."""

    def __init__(self, startup: str, device: Device, misbehaving: bool, rng: Random) -> None:
        self.startup = startup
        self.name = device.name
        self.misbehaving = misbehaving
        self._device = device
        self._rng = rng
        self._made = 0

    def messages(self, now: float) -> list[Message]:
        """Return what the device sends at `now` (Unix seconds): usually one message, sometimes none."""
        return [self._write(telemetry, now) for telemetry in self._device.measure(now)]

    def _write(self, telemetry: Telemetry, now: float) -> Message:
        spoiled = self.misbehaving and self._made % SPOILED == 0
        self._made += 1
        if spoiled:
            return misbehave(telemetry, now, self._rng)
        return Message(telemetry.topic, encode(telemetry.body))


def build(startups: Iterable[str], devices: int, misbehaving: Share, seed: str) -> list[Unit]:
    """Build the fleet: `devices` of each startup. Raise KeyError for a startup that is not in FACTORIES."""
    return [unit for startup in startups for unit in _build_one(startup, devices, misbehaving, seed)]


def _build_one(startup: str, devices: int, misbehaving: Share, seed: str) -> list[Unit]:
    numbers = range(1, devices + 1)
    bad = set(Random(f"{seed}/{startup}").sample(numbers, misbehaving.of(devices)))
    make = FACTORIES[startup]
    return [
        Unit(startup, make(number, seed), number in bad, Random(f"{seed}/{startup}/{number}/faults"))
        for number in numbers
    ]
