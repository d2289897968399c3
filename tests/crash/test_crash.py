"""Short form of `make crash`: the faults that matter most, with few messages."""

from __future__ import annotations

import asyncio
import importlib
from pathlib import Path
from typing import Any

import pytest

from tests.crash.bed import SHORT
from tests.crash.scenario import Scenario, scenarios
from tests.crash.verdict import judged

SEED = 1
ALL = scenarios()
WITHIN = 120.0


@pytest.mark.slow
@pytest.mark.parametrize("scenario", [pytest.param(one, id=name) for name, one in ALL.items() if one.short])
async def test_nothing_is_lost_by_a_fault(scenario: Scenario, tmp_path: Path) -> None:
    """Of what the broker acknowledged nothing is lost or stored twice, the ledger balances, the gateway recovers."""
    async with asyncio.timeout(WITHIN):
        line = await judged(scenario, SHORT, SEED, tmp_path)
    assert line.good, line.as_json()


@pytest.mark.parametrize("function", sorted({one.needs.point.function for one in ALL.values() if one.needs.point}))
def test_a_kill_point_exists(function: str) -> None:
    """The gateway has the function that a kill point names."""
    module, _, name = function.partition(":")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    assert callable(found)
