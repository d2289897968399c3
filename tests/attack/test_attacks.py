"""Short form of `make attack`: nobody loses a message, no server ends, and none grows beyond its bound."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.children import Helper
from tests.attack import bed as beds
from tests.attack.bed import Bed, Scale
from tests.attack.layout import Layout
from tests.attack.measure import Load, Seen, alone, attacked
from tests.attack.scenario import Scenario, scenarios

LOAD = Load(messages=10, patience=30.0)
SCALE = Scale(seconds=0.8, lead=0.2, share=0.02)
ALL = list(scenarios().values())


@dataclass(frozen=True)
class Ground:
    """A bed with its victim, and what that notices alone."""

    runner: asyncio.Runner
    bed: Bed
    victim: Helper
    control: Seen


def ground(directory: Path, layout: Layout) -> Iterator[Ground]:
    """Run a bed until the test, or all of them, are done."""
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        try:
            bed = runner.run(stack.enter_async_context(beds.opened(directory, layout, SCALE)))
            victim = runner.run(stack.enter_async_context(bed.victim()))
            yield Ground(runner, bed, victim, runner.run(alone(victim, LOAD)))
        finally:
            runner.run(stack.aclose())


@pytest.fixture(scope="module")
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """One bed for all attacks on the same layout: each has to get over what the others left behind."""
    yield from ground(tmp_path_factory.mktemp("attack"), request.param)


@pytest.fixture
def own(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ground]:
    yield from ground(tmp_path, request.param)


def attacks(*, restarts: bool) -> list[object]:
    chosen = [one for one in ALL if one.restarts == restarts]
    return [pytest.param(one.layout, one, id=one.name) for one in chosen]


@pytest.mark.parametrize(("shared", "scenario"), attacks(restarts=False), indirect=["shared"])
def test_an_attack_costs_others_nothing(shared: Ground, scenario: Scenario) -> None:
    """Beside an attacker, another startup loses nothing, and gateway and broker stay within their memory."""
    assert_harmless(shared, scenario)


@pytest.mark.parametrize(("own", "scenario"), attacks(restarts=True), indirect=["own"])
def test_a_restart_after_an_attack_costs_others_nothing(own: Ground, scenario: Scenario) -> None:
    """The same where a server starts again meanwhile."""
    assert_harmless(own, scenario)


def assert_harmless(ground: Ground, scenario: Scenario) -> None:
    line = ground.runner.run(attacked(ground.bed, ground.victim, scenario, ground.control, LOAD))
    assert line.is_whole, line.as_json()
