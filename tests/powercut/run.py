"""All of it: record the scenarios, cut them in several processes, and count."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.powercut.cutting import Cut, Replay, Spec, checked, lay
from tests.powercut.recording import Before, CannotRecord, Recording
from tests.powercut.scenarios import SCENARIOS, Scenario, named, record

PROCESSES = 2
SHOWN = 5
ATTEMPTS = 3

Advance = Callable[[str], None]


@dataclass
class Line:
    """What the cuts of one scenario have shown."""

    scenario: Scenario
    events: int = 0
    fsyncs: int = 0
    acknowledged: int = 0
    """Messages that the gateway acknowledged while it was recorded."""
    cuts: list[Cut] = field(default_factory=list)

    @property
    def bad(self) -> list[Cut]:
        return [cut for cut in self.cuts if not cut.findings.good]

    @property
    def lost(self) -> int:
        return sum(len(cut.findings.lost) for cut in self.cuts)

    @property
    def good(self) -> bool:
        """Whether nothing was wrong; of a control, whether something was lost."""
        return bool(self.lost) if self.scenario.is_control else not self.bad

    def as_json(self) -> dict[str, Any]:
        return {
            "scenario": self.scenario.name,
            "control": self.scenario.is_control,
            "good": self.good,
            "events": self.events,
            "fsyncs": self.fsyncs,
            "cuts": len(self.cuts),
            "dropped": sum(bool(cut.dropped) for cut in self.cuts),
            "reordered": sum(cut.reordered for cut in self.cuts),
            "torn": sum(bool(cut.torn) for cut in self.cuts),
            "acknowledged": sum(cut.findings.acknowledged for cut in self.cuts),
            "found": sum(cut.findings.found for cut in self.cuts),
            "lost": self.lost,
            "cuts_with_losses": sum(bool(cut.findings.lost) for cut in self.cuts),
            "invented": sum(len(cut.findings.invented) for cut in self.cuts),
            "claimed": sum(cut.findings.claimed for cut in self.cuts),
            "unbalanced": sum(bool(cut.findings.unbalanced) for cut in self.cuts),
            "damaged": sum(bool(cut.findings.damaged) for cut in self.cuts),
            "crashed": sum(bool(cut.findings.crash) for cut in self.cuts),
            "examples": [] if self.scenario.is_control else [asdict(cut) for cut in self.bad[:SHOWN]],
        }


async def recorded(scenario: Scenario, directory: Path, seed: int, messages: int) -> Recording:
    """Record a scenario, and what it comes after, unless the directory has them already; check what was recorded.

    Raises:
        CannotRecord: it cannot be recorded here.
    """
    recording = Recording(directory / scenario.name.replace(" ", "-"))
    if recording.directory.exists():
        return recording
    prior: tuple[Before, Path] | None = None
    if scenario.after:
        earlier = await recorded(named(SCENARIOS)[scenario.after], directory, seed, messages)
        prior = await asyncio.to_thread(_left, earlier, f"{seed}/{scenario.name}", directory)
    replay = await _complete(scenario, recording, messages, prior)
    if not any(one.acknowledged for one in replay.exchanges):
        raise CannotRecord(f"{scenario.name}: no acknowledgement was recorded")
    return recording


async def _complete(
    scenario: Scenario, recording: Recording, messages: int, prior: tuple[Before, Path] | None
) -> Replay:
    """Record a scenario until the recording is complete. A process that is killed between the note of a write and the
    write leaves one that is not."""
    for attempt in range(ATTEMPTS):
        await record(scenario, recording, messages, prior)
        try:
            return await asyncio.to_thread(checked, recording)
        except AssertionError:
            if attempt == ATTEMPTS - 1:
                raise
            await asyncio.to_thread(shutil.rmtree, recording.directory)
    raise AssertionError


def _left(earlier: Recording, seed: str, directory: Path) -> tuple[Before, Path]:
    """Cut the power at the end of a recording; return what had happened, and the files that are left."""
    replay = checked(earlier)
    tree = directory / "left"
    tree.mkdir()
    lay(replay.remains(seed)[0], tree)
    return Before(replay.delivered, replay.acknowledged), tree


async def cut(scenario: Scenario, recording: Recording, cuts: int, seed: int, advance: Advance) -> Line:
    """Cut a recording, in two processes."""
    line = Line(scenario)
    replay = await asyncio.to_thread(checked, recording)
    line.events = len(replay.events)
    line.fsyncs = sum(event.kind.name == "SYNC_END" for event in replay.events)
    line.acknowledged = sum(one.acknowledged for one in replay.exchanges)
    spec = Spec(
        str(recording.directory), f"{seed}/{scenario.name}", cuts, scenario.workers, scenario.ignores, of=PROCESSES
    )
    parts = [replace(spec, part=part) for part in range(PROCESSES)]
    tasks = [asyncio.create_task(_process(part, line, advance)) for part in parts]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    line.cuts.sort(key=lambda one: one.at)
    return line


async def _process(spec: Spec, line: Line, advance: Advance) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.powercut.cutting", json.dumps(asdict(spec))),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 24,
    )
    try:
        assert process.stdout is not None
        async for text in process.stdout:
            line.cuts.append(Cut.from_json(json.loads(text)))
            advance(line.scenario.name)
        if await process.wait():
            raise CannotRecord(f"{line.scenario.name}: a process that cuts ended with {process.returncode}; see above")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
