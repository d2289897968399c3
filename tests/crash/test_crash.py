"""Short form of `make crash`: the faults that matter most, with few messages."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Mapping
from typing import Any

import pytest

from tests.crash.bed import SHORT
from tests.crash.scenario import Scenario, scenarios
from tests.crash.verdict import Line, judged

SEED = 1
ALL = scenarios()
WITHIN = 120.0
JOBS = 3
"""How many run at a time: they mostly wait."""


@pytest.fixture(scope="module")
def lines(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Line | Exception]:
    """Run the scenarios of the tests that were chosen; return what each found, or why it could not run."""
    chosen: list[Any] = [one for one in request.session.items if one.path == request.path]
    wanted = [one.callspec.params["scenario"] for one in chosen if "scenario" in one.callspec.params]

    async def run_all() -> Mapping[str, Line | Exception]:
        places = asyncio.Semaphore(JOBS)

        async def run(one: Scenario) -> Line | Exception:
            async with places:
                try:
                    async with asyncio.timeout(WITHIN):
                        return await judged(one, SHORT, SEED, tmp_path_factory.mktemp("crash"))
                except Exception as error:  # of any kind: it fails the test of this scenario, and no other
                    return error

        found = await asyncio.gather(*map(run, wanted))
        return {one.name: line for one, line in zip(wanted, found, strict=True)}

    return asyncio.run(run_all())


@pytest.mark.slow
@pytest.mark.parametrize("scenario", [pytest.param(one, id=name) for name, one in ALL.items() if one.short])
def test_nothing_is_lost_by_a_fault(lines: Mapping[str, Line | Exception], scenario: Scenario) -> None:
    """Of what the broker acknowledged nothing is lost or stored twice, the ledger balances, the gateway recovers."""
    line = lines[scenario.name]
    if isinstance(line, Exception):
        raise line
    assert line.good, line.as_json()


@pytest.mark.parametrize("function", sorted({one.needs.point.function for one in ALL.values() if one.needs.point}))
def test_a_kill_point_exists(function: str) -> None:
    """The gateway has the function that a kill point names."""
    module, _, name = function.partition(":")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    assert callable(found)
