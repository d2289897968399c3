"""Devices of the three startups: what they measure, as JSON.

The payloads match `config/startups/*.yaml`. A device takes its randomness from its own `Random`, so that it
measures the same whatever its neighbours do.
"""

from __future__ import annotations

from random import Random

from devices.charging import Connector
from devices.signals import DAY, Elapsed, Irrigation, Room, Walk, battery, clamp, daily, drift
from devices.telemetry import Channel, Clock, Record, Telemetry

CLIMATE = Channel("climate", ("/t", "/humidity"), Clock("ts", "ms"), closed=True)
AIR = Channel("air", ("/co2", "/pm/2.5"), Clock("time", "rfc3339"), closed=False)
CHARGING = Channel(
    "charging",
    ("/meter/voltage", "/meter/current", "/meter/power", "/meter/energy"),
    Clock("t", "s"),
    closed=True,
)
SOIL = Channel("soil", ("/moisture", "/ph", "/ec"), Clock("at", "s"), closed=True)
PUMP = Channel("pump", ("/flow",), clock=None, closed=False)


def stamp(channel: Channel, now: float, record: Record) -> Record:
    """Return the record with the time of its measurement in front."""
    return {channel.clock.key: channel.clock.write(now), **record} if channel.clock else record


class Cell:
    """A device's battery, of a random age when the simulation starts."""

    def __init__(self, rng: Random, lifetime: float) -> None:
        self._age, self._lifetime = rng.uniform(0, lifetime), lifetime
        self._elapsed = Elapsed()

    def volts(self, now: float) -> float:
        self._age += self._elapsed.step(now)
        return round(battery(self._age, self._lifetime), 3)


class AirSensor:
    """Acme: climate and air in turn; every fifth climate message has the battery."""

    def __init__(self, name: str, rng: Random) -> None:
        self.name = name
        self._rng = rng
        self._firmware = rng.choice(("1.4.2", "1.5.0"))
        self._cell = Cell(rng, lifetime=40 * DAY)
        self._room = Room(rng, seats=rng.randint(4, 10))
        self._warmth = Walk(rng, spread=0.4, memory=1200)
        self._damp = Walk(rng, spread=2.5, memory=1800)
        self._dust = Walk(rng, spread=2.0, memory=300)
        self._birth = 0.0
        self._turn = 0

    def measure(self, now: float) -> list[Telemetry]:
        self._birth = self._birth or now
        channel, record = (AIR, self._air(now)) if self._turn % 2 else (CLIMATE, self._climate(now))
        self._turn += 1
        return [Telemetry(f"testbed/acme/{self.name}/{channel.name}", channel, stamp(channel, now, record))]

    def _climate(self, now: float) -> Record:
        temperature = daily(now, low=19.5, high=23.5, peak_hour=15) + self._warmth.step(now)
        humidity = clamp(47 - 1.6 * (temperature - 21) + self._damp.step(now), 5, 95)
        off = drift(now - self._birth, per_day=0.01, limit=0.6)  # humidity sensors read too high as they age
        record: Record = {
            "t": round(temperature + self._rng.gauss(0, 0.03), 2),
            "humidity": round(humidity + off, 1),
        }
        if self._turn % 10 == 0:
            record["battery"] = self._cell.volts(now)
        return record | {"fw": self._firmware}

    def _air(self, now: float) -> Record:
        co2 = self._room.step(now) + self._rng.gauss(0, 6)
        people = self._room.people or 0
        dust = 6 + 0.4 * people + self._dust.step(now)
        return {
            "co2": round(clamp(co2, 400, 5000)),
            "pm": {"2.5": round(clamp(dust, 0.2, 400), 1)},
            "voc": round(clamp(90 + 35 * people + self._rng.gauss(0, 12), 0, 5000)),
            "rssi": round(clamp(self._rng.gauss(-64, 4), -95, -30)),  # no rule names it: it is dropped
        }


class ChargingPoint:
    """Voltwise: two connectors, reported in turn."""

    CONNECTORS = ("1", "2")

    def __init__(self, name: str, rng: Random) -> None:
        self.name = name
        self._connectors = [Connector(rng) for _ in self.CONNECTORS]
        self._turn = 0

    def measure(self, now: float) -> list[Telemetry]:
        place = self._turn % len(self._connectors)
        self._turn += 1
        topic = f"testbed/voltwise/{self.name}/{self.CONNECTORS[place]}/charging"
        return [Telemetry(topic, CHARGING, stamp(CHARGING, now, self._record(place, now)))]

    def _record(self, place: int, now: float) -> Record:
        shown = self._connectors[place].step(now)
        meter = {
            "voltage": shown.voltage,
            "current": shown.current,
            "power": shown.power,
            "energy": shown.energy,
        }
        return {"state": shown.state.value, "locked": shown.locked, "meter": meter}


class SoilProbe:
    """Greenbed: sleeps, measures, keeps the reading, and wakes its radio for every `KEPT`th reading only.

    So it sends one message, an array, where other devices send `KEPT`.
    """

    KEPT = 5

    def __init__(self, name: str, rng: Random, bed: str, irrigation: Irrigation) -> None:
        self.name = name
        self._bed, self._irrigation = bed, irrigation
        self._cell = Cell(rng, lifetime=120 * DAY)
        self._wet = Walk(rng, spread=0.5, memory=90)
        self._acid = Walk(rng, spread=0.06, memory=3600)
        self._salt = Walk(rng, spread=0.05, memory=1800)
        self._birth = 0.0
        self._kept: list[Record] = []

    def measure(self, now: float) -> list[Telemetry]:
        self._birth = self._birth or now
        self._kept.append(stamp(SOIL, now, self._record(now)))
        if len(self._kept) < self.KEPT:
            return []
        kept, self._kept = self._kept, []
        return [Telemetry(f"testbed/greenbed/{self.name}/soil", SOIL, kept)]

    def _record(self, now: float) -> Record:
        moisture = self._irrigation.moisture(now) + self._wet.step(now)
        aged = drift(now - self._birth, per_day=0.02, limit=0.4)  # glass electrodes lose their slope
        return {
            "moisture": round(clamp(moisture, 0, 100), 1),
            "ph": round(6.1 + self._acid.step(now) + aged, 2),
            "ec": round(1.5 + 0.02 * (self._irrigation.wet - moisture) + self._salt.step(now), 2),
            "battery": self._cell.volts(now),
            "bed": self._bed,
        }


class Pump:
    """Greenbed: on the mains, and without a clock, so that it sends no time."""

    def __init__(self, name: str, rng: Random, irrigation: Irrigation) -> None:
        self.name = name
        self._irrigation = irrigation
        self._stream = Walk(rng, spread=0.5, memory=10)

    def measure(self, now: float) -> list[Telemetry]:
        running = self._irrigation.running(now)
        flow = round(21 + self._stream.step(now), 1) if running else 0.0
        pressure = round(0.08 * flow, 2)  # bar; kept, although no rule names it
        record: Record = {"on": running, "flow": flow, "mode": "auto", "pressure": pressure}
        return [Telemetry(f"testbed/greenbed/{self.name}/pump", PUMP, record)]
