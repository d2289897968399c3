"""Registry of the scenarios: a decorator, and the search for all files in `scenarios/`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Literal

from tests.attack.bed import Bed
from tests.attack.layout import PLAIN, Layout
from tests.harness.registry import Registry

Measure = Literal["live", "stored", "query"]
Attack = Callable[[Bed], AsyncIterator[None]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """An attack. `measure` is the latency of the victim that is judged; `restarts` is true if a server is restarted."""

    name: str
    about: str
    run: Callable[[Bed], AbstractAsyncContextManager[None]]
    layout: Layout
    measure: Measure
    restarts: bool


_registry: Registry[Scenario] = Registry("tests.attack.scenarios")


def attack(
    about: str, *, layout: Layout = PLAIN, measure: Measure = "live", restarts: bool = False
) -> Callable[[Attack], Attack]:
    """Register an attack under its function's name."""

    def register(function: Attack) -> Attack:
        name = function.__name__.replace("_", "-")
        _registry.add(name, Scenario(name, about, asynccontextmanager(function), layout, measure, restarts))
        return function

    return register


def scenarios() -> dict[str, Scenario]:
    """Return all scenarios by name, in the order of their files."""
    return _registry.all()
