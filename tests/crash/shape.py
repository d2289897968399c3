"""Shapes of a gateway under test: workers, MQTT version, store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Shape:
    """One process (`workers` is 1) or a supervisor with several."""

    workers: int = 1
    protocol: Literal["5", "3.1.1"] = "5"
    store: Literal["sqlite", "influxdb"] = "sqlite"

    def __str__(self) -> str:
        return f"{self.workers}w-mqtt{self.protocol}-{self.store}"

    @property
    def options(self) -> list[str]:
        """Return the options of `gateway run`."""
        return ["--workers", str(self.workers)] if self.workers > 1 else []


PLAIN = Shape()
WORKERS = Shape(workers=2, protocol="3.1.1")
INFLUX = Shape(store="influxdb")
WORKERS_INFLUX = Shape(workers=2, store="influxdb")
OLD_INFLUX = Shape(protocol="3.1.1", store="influxdb")

EVERY = (PLAIN, WORKERS, WORKERS_INFLUX, OLD_INFLUX)
"""Each value of each dimension, alone and with others."""
BOTH = (PLAIN, WORKERS)
STORES = (INFLUX, WORKERS_INFLUX)


def merged(these: dict[str, Any], those: dict[str, Any]) -> dict[str, Any]:
    """Merge the settings of two sources, section by section."""
    found = dict(these)
    for name, value in those.items():
        found[name] = merged(found.get(name, {}), value) if isinstance(value, dict) else value
    return found
