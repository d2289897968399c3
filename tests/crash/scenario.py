"""Registry of the scenarios: a decorator, and the search for all files in `scenarios/`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.crash.bed import Bed
from tests.crash.points import Point
from tests.crash.shape import PLAIN, Shape
from tests.harness.registry import Registry

Fault = Callable[[Bed], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A fault in one shape. `short` says that it belongs to the short form. `exits` is how often the gateway may end
    by itself with an error: its supervisor starts it again. The other fields are what the bed needs."""

    name: str
    about: str
    run: Fault
    shape: Shape
    short: bool = False
    exits: int = 0
    needs: Needs = field(default_factory=lambda: Needs())


@dataclass(frozen=True, slots=True)
class Needs:
    """What a scenario needs of its bed: further settings, faults below the gateway, a kill point, a file system of so
    many MiB for the state."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    preload: bool = False
    point: Point | None = None
    kills: int = 1
    disk_mib: int = 0


_registry: Registry[Scenario] = Registry("tests.crash.scenarios")


def crash(
    about: str, *, name: str = "", shapes: Sequence[Shape] = (PLAIN,), short: bool = False, exits: int = 0, **needs: Any
) -> Callable[[Fault], Fault]:
    """Register a fault under its function's name, once for each shape; the first one is part of the short form."""

    def register(function: Fault) -> Fault:
        plain = name or function.__name__.replace("_", "-")
        for shape in shapes:
            of_shape = plain if len(shapes) == 1 else f"{plain}-{shape}"
            is_short = short and shape is shapes[0]
            made = Scenario(of_shape, about, function, shape, is_short, exits, Needs(**needs))
            _registry.add(of_shape, made)
        return function

    return register


def scenarios() -> dict[str, Scenario]:
    """Return all scenarios by name, in the order of their files."""
    return _registry.all()
