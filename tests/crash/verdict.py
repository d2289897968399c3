"""Line of the table: a scenario, what was found afterwards, and the verdict."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.model import Counts
from tests.crash import bed as beds
from tests.crash.bed import STARTUPS, Bed, Scale
from tests.crash.readback import FAILED, Found
from tests.crash.scenario import Scenario
from tests.harness.check import Check
from tests.servers import eventually

LOOK = 0.5
READY_WITHIN = 30.0
SHOWN = 120
"""Characters of a problem that stand in the table."""
NOTHING = Found(Counter(), set(), Counts())


@dataclass(frozen=True, slots=True)
class Line:
    """A scenario and its effect. `stall` is the longest time, in seconds, for which nothing was stored while
    readings waited; `recovered` is how long it took after the fault until everything was accounted for."""

    scenario: Scenario
    seed: int
    sent: int
    acknowledged: Mapping[str, set[int]]
    found: Mapping[str, Found]
    stall: float
    recovered: float
    restarts: int
    exits: int
    checks: Sequence[Check]

    @property
    def lost(self) -> int:
        return sum(len(one.lost(self.acknowledged[slug])) for slug, one in self.found.items())

    @property
    def duplicated(self) -> int:
        return sum(one.duplicated for one in self.found.values())

    @property
    def misjudged(self) -> int:
        return sum(one.misjudged for one in self.found.values())

    @property
    def is_balanced(self) -> bool:
        return all(one.ledger.balanced and not one.ledger.journaled for one in self.found.values())

    @property
    def is_stable(self) -> bool:
        """Whether the gateway has not ended by itself more often than the scenario allows."""
        return self.exits <= self.scenario.exits

    @property
    def good(self) -> bool:
        counts = not (self.lost or self.duplicated or self.misjudged)
        return counts and self.is_balanced and self.is_stable and all(check.good for check in self.checks)

    def as_json(self) -> dict[str, Any]:
        return {
            "scenario": self.scenario.name,
            "about": self.scenario.about,
            "shape": str(self.scenario.shape),
            "seed": self.seed,
            "sent": self.sent,
            "acknowledged": sum(map(len, self.acknowledged.values())),
            "stored": sum(len(one.stored) for one in self.found.values()),
            "dead_lettered": sum(len(one.dead) for one in self.found.values()),
            "lost": self.lost,
            "duplicated": self.duplicated,
            "misjudged": self.misjudged,
            "balanced": self.is_balanced,
            "longest_stall_s": round(self.stall, 1),
            "recovered_s": round(self.recovered, 1),
            "restarts": self.restarts,
            "exits": self.exits,
            "checks": {check.what: check.good for check in self.checks},
            "good": self.good,
        }


async def judged_apart(scenario: Scenario, scale: Scale, seed: int, logs: Path | None = None) -> Line:
    """Run a scenario in a directory that is removed afterwards. If it fails, `logs` gets the gateway's log."""
    with tempfile.TemporaryDirectory(prefix="gateway-crash-") as made:
        is_good = False
        try:
            line = await judged(scenario, scale, seed, Path(made))
            is_good = line.good
            return line
        finally:
            log = Path(made) / "gateway.log"
            if logs is not None and not is_good and log.exists():
                logs.mkdir(parents=True, exist_ok=True)
                shutil.copy(log, logs / f"{scenario.name}.log")


async def judged(scenario: Scenario, scale: Scale, seed: int, directory: Path) -> Line:
    """Run a scenario on a bed of its own."""
    chance = f"{seed} {scenario.name}"
    async with beds.opened(directory, scenario.shape, scale, chance, scenario.needs) as bed:
        try:
            await scenario.run(bed)
        except AssertionError as error:  # what it waited for did not happen; what is lost by that?
            bed.check(str(error)[:SHOWN], good=False)
        await bed.heal()
        bed.fleet.publish()
        await bed.fleet.more(scale.after)
        await bed.fleet.pause()
        began = time.monotonic()
        found = await _recovered(bed)
        recovered = time.monotonic() - began
        bed.check("it is ready in the end", await _gets_ready(bed))
        bed.check("no traceback in the log", "Traceback" not in bed.gateway.log)
        bed.check("SIGTERM ends it with status 0", await bed.keeper.stop() == 0)
        ends = [status for status in bed.keeper.ends[:-1] if status]
        restarts = len(ends) + sum(one.get("event") == "worker ended" for one in bed.logged())
        acknowledged = {slug: bed.fleet.acknowledged(slug) for slug in STARTUPS}
        exits = sum(status > 0 for status in ends)
        return Line(
            scenario, seed, bed.fleet.sent, acknowledged, found, bed.stalls, recovered, restarts, exits, bed.checks
        )


async def _gets_ready(bed: Bed) -> bool:
    """Return whether it becomes ready soon: a worker that serves nobody may still be on its way."""

    async def is_ready() -> bool:
        return bool((await bed.reader.ready()).get("ready"))

    with suppress(AssertionError):
        return await eventually(is_ready, within=READY_WITHIN)
    return False


async def _recovered(bed: Bed) -> Mapping[str, Found]:
    """Read everything back, again and again until nothing is missing or the patience ends."""
    give_up = time.monotonic() + bed.scale.patience
    found: dict[str, Found] = {}
    while True:
        is_late = time.monotonic() > give_up
        if is_late or await bed.is_drained():
            try:
                found = {slug: await bed.reader.everything(slug, bed.fleet.start_ms) for slug in STARTUPS}
            except FAILED as error:
                if is_late:
                    bed.check(f"everything can be read back: {error!r}"[:SHOWN], good=False)
                    return dict.fromkeys(STARTUPS, NOTHING)
            else:
                if is_late or not any(one.lost(bed.fleet.acknowledged(slug)) for slug, one in found.items()):
                    return found
        await asyncio.sleep(LOOK)
