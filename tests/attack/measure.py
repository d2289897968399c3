"""One line of the table: the victim alone, the victim under attack, and the verdict."""

from __future__ import annotations

import asyncio
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.children import Helper
from bench.stats import quantile
from tests.attack import bed
from tests.attack.bed import Bed, Scale
from tests.attack.scenario import Measure, Scenario
from tests.harness.check import Check

MOST_RATIO = 1.2
FLOOR_MS = 20.0
GATEWAY_MIB = 400
BROKER_MIB = 2048
"""`mem_limit` of the broker in docker-compose.yml."""
SETTLES = 2.0


@dataclass(frozen=True, slots=True)
class Load:
    """Load that the victim publishes in each phase, and how long it waits for the last message."""

    messages: int = 100
    rate: float = 20.0
    patience: float = 45.0

    def question(self) -> dict[str, Any]:
        return {"messages": self.messages, "rate": self.rate, "patience": self.patience}


@dataclass(frozen=True, slots=True)
class Seen:
    """Effects that the victim noticed in a phase: latencies in ms, infinite where something never came."""

    messages: int
    lost: int
    latencies: dict[str, list[float]]

    @classmethod
    def of(cls, answer: dict[str, Any]) -> Seen:
        kinds = ("live", "stored", "query")
        latencies = {kind: [math.inf if one is None else one for one in answer[kind]] for kind in kinds}
        return cls(answer["messages"], answer["lost"], latencies)

    def ms(self, measure: Measure, share: float) -> float:
        return quantile(sorted(self.latencies[measure]), share)


@dataclass(frozen=True, slots=True)
class Line:
    """An attack and its effect. `peak` is the most memory that a server has had, in MiB."""

    scenario: Scenario
    control: Seen
    attacked: Seen
    reached: Sequence[str]
    peak: dict[str, float]
    checks: Sequence[Check] = field(default=())

    @property
    def p99_good(self) -> bool:
        measure = self.scenario.measure
        allowed = max(FLOOR_MS, MOST_RATIO * self.control.ms(measure, 0.99))
        return self.attacked.ms(measure, 0.99) <= allowed

    @property
    def ratio(self) -> float:
        measure = self.scenario.measure
        return self.attacked.ms(measure, 0.99) / max(1e-3, self.control.ms(measure, 0.99))

    @property
    def is_whole(self) -> bool:
        """True when nothing is lost, nothing has ended, and nothing has grown beyond its bound."""
        memory = self.peak["gateway"] <= GATEWAY_MIB and self.peak["broker"] <= BROKER_MIB
        return not self.attacked.lost and memory and all(check.good for check in self.checks)

    @property
    def good(self) -> bool:
        return self.is_whole and self.p99_good

    def as_json(self) -> dict[str, Any]:
        measure = self.scenario.measure
        phases = {"control": self.control, "attacked": self.attacked}
        return {
            "attack": self.scenario.name,
            "about": self.scenario.about,
            "measure": measure,
            "sent": self.attacked.messages,
            "lost": self.attacked.lost,
            **{f"{name}_p50_ms": _finite(seen.ms(measure, 0.5)) for name, seen in phases.items()},
            **{f"{name}_p99_ms": _finite(seen.ms(measure, 0.99)) for name, seen in phases.items()},
            "p99_ratio": _finite(self.ratio),
            "query_p99_ms": {name: _finite(seen.ms("query", 0.99)) for name, seen in phases.items()},
            "peak_mib": {name: round(value) for name, value in self.peak.items()},
            "reached": list(self.reached),
            "checks": {check.what: check.good for check in self.checks},
            "good": self.good,
        }


def _finite(value: float) -> float | None:
    return round(value, 2) if math.isfinite(value) else None


async def measured(scenario: Scenario, load: Load, scale: Scale) -> Line:
    """Run an attack on a bed of its own."""
    with tempfile.TemporaryDirectory(prefix="gateway-attack-") as directory:
        async with bed.opened(Path(directory), scenario.layout, scale) as one, one.victim() as victim:
            control = await alone(victim, load)
            return await attacked(one, victim, scenario, control, load)


async def alone(victim: Helper, load: Load) -> Seen:
    """Let the victim publish while nothing else happens."""
    await victim.ask({"connect": True})
    return Seen.of(await victim.ask(load.question()))


async def attacked(one: Bed, victim: Helper, scenario: Scenario, control: Seen, load: Load) -> Line:
    """Let the victim publish under attack."""
    await victim.ask({"connect": True})
    one.begin()
    logged = len(one.gateway.log)
    async with scenario.run(one):
        if scenario.restarts:  # how long a device waits before it connects again is its own affair
            await victim.ask({"connect": True})
        seen = Seen.of(await victim.ask(load.question()))
    await asyncio.sleep(SETTLES * one.scale.share)  # for memory that grows when the attack has ended
    one.check("the gateway runs", one.gateway.runs)
    one.check("the broker runs", one.broker.running)
    one.check("no traceback in the log", "Traceback" not in one.gateway.log[logged:])
    return Line(scenario, control, seen, tuple(one.reached), dict(one.peak), tuple(one.checks))
