"""Short form of `make powercut`: a power cut loses nothing that was acknowledged, and the controls lose something."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.powercut.recording import CannotRecord
from tests.powercut.run import Line, cut, recorded
from tests.powercut.scenarios import CONTROLS, SCENARIOS, Scenario, named

SEED = 1
MESSAGES = 120
CUTS = 50
CUTS_OF_CONTROL = 12

CONTROL = named(CONTROLS)

pytestmark = pytest.mark.slow


async def lines_of(scenario: Scenario, cuts: int, directory: Path) -> Line:
    try:
        recording = await recorded(scenario, directory, SEED, MESSAGES)
    except CannotRecord as error:
        pytest.skip(str(error))
    return await cut(scenario, recording, cuts, SEED, lambda _: None)


@pytest.mark.parametrize("name", ["sqlite", "store away"])
async def test_power_cut_loses_nothing_that_was_acknowledged(name: str, tmp_path: Path) -> None:
    """Wherever the power is cut, every acknowledged message is stored, in the journal or a dead letter, what the ledger
    calls stored is in the store, and the gateway starts."""
    line = await lines_of(named(SCENARIOS)[name], CUTS, tmp_path)
    assert line.good, line.as_json()
    assert any(one.dropped for one in line.cuts)
    assert any(one.torn for one in line.cuts)


@pytest.mark.parametrize(
    "control", [CONTROL["state OFF"], CONTROL["store OFF"], CONTROL["names"]], ids=lambda one: one.name
)
async def test_power_cut_tells_who_does_not_sync(control: Scenario, tmp_path: Path) -> None:
    """Without an fsync, of the state database, the store or a directory, acknowledged messages are lost."""
    line = await lines_of(control, CUTS_OF_CONTROL, tmp_path)
    assert line.lost, line.as_json()
