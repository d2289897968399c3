"""Options of a run; every path takes those that it needs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from bench.packets import Version
from bench.shape import Shape

StoreKind = Literal["sqlite", "influxdb"]


@dataclass(frozen=True, slots=True)
class Options:
    """Options. `seconds` is the duration of the load; `messages`, if given, replaces it."""

    shape: Shape = field(default_factory=Shape)
    qos: int = 1
    version: Version = 4
    connections: int = 1
    window: int = 20_000
    in_flight: int = 5_000
    seconds: float = 5.0
    messages: int | None = None
    rounds: int = 3
    workers: int = 0
    store: StoreKind = "sqlite"
    share: float = 0.5
    readings_stored: int = 10_000_000

    def but(self, **changes: Any) -> Options:
        return replace(self, **changes)

    def phase(self) -> dict[str, Any]:
        """Return the load at full speed, as `bench.load` takes it."""
        return {"messages": self.messages} if self.messages else {"seconds": self.seconds}

    def warm_up(self) -> dict[str, Any]:
        """Return the number of messages of a warm-up: every device once, and enough to fill caches."""
        return {"messages": max(2000, self.shape.devices)}

    def load(self, port: int) -> dict[str, Any]:
        """Return what `bench.load` is started with."""
        return {
            "port": port,
            "shape": self.shape.as_json(),
            "qos": self.qos,
            "version": self.version,
            "connections": self.connections,
            "window": self.window,
        }

    def bare(self, port: int) -> dict[str, Any]:
        """Return what `bench.bare` is started with."""
        return {"port": port, "shape": self.shape.as_json(), "qos": self.qos, "in_flight": self.in_flight}
