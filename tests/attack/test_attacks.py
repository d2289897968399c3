"""Short form of `make attack`: nobody loses a message, no server ends, and none grows beyond its bound."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.children import Helper
from tests.attack import bed as beds
from tests.attack.bed import Bed, Scale
from tests.attack.layout import Layout
from tests.attack.measure import Line, Load, Seen, alone, attacked
from tests.attack.scenario import Scenario, scenarios

LOAD = Load(messages=10, rate=40.0, patience=30.0)
SCALE = Scale(seconds=0.6, lead=0.1, share=0.02)
ALL = list(scenarios().values())


@dataclass(frozen=True)
class Ground:
    """A bed with its victim, and what that notices alone."""

    layout: Layout
    bed: Bed
    victim: Helper
    control: Seen


@asynccontextmanager
async def ground(directory: Path, layout: Layout) -> AsyncIterator[Ground]:
    async with beds.opened(directory, layout, SCALE) as bed, bed.victim() as victim:
        yield Ground(layout, bed, victim, await alone(victim, LOAD))


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as made:
        yield made


@pytest.fixture(scope="module")
def grounds(runner: asyncio.Runner, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Ground]]:
    """One bed for all attacks on the same layout: each has to get over what the others left behind."""
    layouts: list[Layout] = []
    for one in ALL:
        if one.layout not in layouts and not one.restarts:
            layouts.append(one.layout)
    stack = AsyncExitStack()

    async def start() -> list[Ground]:
        made = [ground(tmp_path_factory.mktemp("attack"), layout) for layout in layouts]
        return [await stack.enter_async_context(one) for one in made]

    try:
        yield runner.run(start())
    finally:
        runner.run(stack.aclose())


def attacks(*, restarts: bool) -> list[object]:
    return [pytest.param(one, id=one.name) for one in ALL if one.restarts == restarts]


@pytest.mark.parametrize("scenario", attacks(restarts=False))
def test_an_attack_costs_others_nothing(runner: asyncio.Runner, grounds: list[Ground], scenario: Scenario) -> None:
    """Beside an attacker, another startup loses nothing, and gateway and broker stay within their memory."""
    (shared,) = (one for one in grounds if one.layout == scenario.layout)
    line = runner.run(attack_on(shared, scenario))
    assert line.is_whole, line.as_json()


@pytest.mark.parametrize("scenario", attacks(restarts=True))
async def test_an_attack_that_outlives_a_restart_costs_others_nothing(scenario: Scenario, tmp_path: Path) -> None:
    """The same where a server starts again meanwhile."""
    async with ground(tmp_path, scenario.layout) as own:
        line = await attack_on(own, scenario)
    assert line.is_whole, line.as_json()


async def attack_on(ground: Ground, scenario: Scenario) -> Line:
    return await attacked(ground.bed, ground.victim, scenario, ground.control, LOAD)
