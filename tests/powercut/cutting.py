"""`python -m tests.powercut.cutting SPEC`: cut a recording at many points; one JSON object a cut on stdout.

One pass over the recording serves all of its cuts.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

from gateway import logs
from gateway.state.room import NAME as RESERVE
from tests.powercut import points
from tests.powercut.disk import Disk, Ignores
from tests.powercut.inspection import Findings, inspect
from tests.powercut.recording import Kind, Recording
from tests.powercut.remains import MAPPED, Remains, present, temper
from tests.powercut.wire import exchanges

MEMORY = Path("/dev/shm")
"""Where the remains are made, where it is: an fsync costs nothing there, and all is durable already."""


@dataclass(frozen=True)
class Spec:
    """Which cuts a process makes: every `of`th from `part` on."""

    recording: str
    seed: str
    cuts: int
    workers: int
    ignores: Ignores = ""
    part: int = 0
    of: int = 1


@dataclass(frozen=True)
class Cut:
    """A cut and what it left. `seed` and `at` say which it was."""

    seed: str
    at: int
    event: str
    disk: str
    keep: float
    dropped: int
    torn: int
    reordered: bool
    findings: Findings

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Cut:
        return cls(**{**body, "findings": Findings(**body["findings"])})


class Replay:
    """A recording, moment by moment: the disk, and the messages that were delivered and acknowledged until then."""

    def __init__(self, recording: Recording, ignores: Ignores = "") -> None:
        before = recording.before
        self.events = list(recording.events())
        self.exchanges = exchanges(self.events)
        self.disk = Disk(ignores)
        for path in sorted(before.initial):
            file = recording.initial / path
            self.disk.place(path, before.initial[path], file.read_bytes() if file.is_file() else None)
        self.delivered = {startup: list(numbers) for startup, numbers in before.delivered.items()}
        self.acknowledged = {startup: list(numbers) for startup, numbers in before.acknowledged.items()}
        self._exchanged = 0

    def run(self, until: int) -> None:
        """Let everything happen up to a moment, counted from 1."""
        while self.disk.moment < until:
            self.disk.apply(self.events[self.disk.moment])
        while self._exchanged < len(self.exchanges) and self.exchanges[self._exchanged].moment <= until:
            one = self.exchanges[self._exchanged]
            numbers = self.acknowledged if one.acknowledged else self.delivered
            numbers.setdefault(one.startup, []).append(one.number)
            self._exchanged += 1

    def remains(self, seed: str) -> tuple[Remains, Any]:
        """Cut the power now."""
        chance = Random(seed)
        drawn = temper(self.disk, chance)
        return Remains(self.disk, drawn, chance), drawn


def checked(recording: Recording) -> Replay:
    """Replay a whole recording; return it.

    Raises:
        AssertionError: the recorder has missed something: the files are not what the recording says.
    """
    replay = Replay(recording)
    replay.run(len(replay.events))
    there = {
        str(path.relative_to(recording.root)): path.read_bytes() if path.is_file() else None
        for path in recording.root.rglob("*")
    }
    recorded = present(replay.disk)
    # SQLite's shared memory is made anew, and nothing is read in the reserve, which is allocated and never written.
    wrong = {path for path in there.keys() | recorded.keys() if not path.endswith((MAPPED, RESERVE))}
    wrong = {path for path in wrong if path not in there or path not in recorded or there[path] != recorded[path]}
    if wrong:
        raise AssertionError(f"the recorder has missed changes of {sorted(wrong)}; is Python linked statically?")
    return replay


def lay(remains: Remains, directory: Path) -> None:
    """Make the files that a cut left."""
    for path, content in remains.tree.items():
        if content is None:
            (directory / path).mkdir()
        else:
            (directory / path).write_bytes(content)


async def cuts(spec: Spec) -> None:
    """Make the cuts of a spec, and print each."""
    replay = Replay(Recording(Path(spec.recording)), spec.ignores)
    chosen = sorted(points.chosen(replay.events, replay.exchanges, spec.cuts, spec.seed))
    for number, at in list(enumerate(chosen))[spec.part :: spec.of]:
        replay.run(at)
        print(json.dumps(asdict(await _cut(replay, f"{spec.seed}/{number}", spec))), flush=True)


async def _cut(replay: Replay, seed: str, spec: Spec) -> Cut:
    remains, drawn = replay.remains(seed)
    directory = Path(tempfile.mkdtemp(prefix="powercut-", dir=MEMORY if MEMORY.is_dir() else None))
    try:
        lay(remains, directory)
        findings = await inspect(directory / "state", replay.delivered, replay.acknowledged, spec.workers)
    finally:
        shutil.rmtree(directory)
    at = replay.disk.moment
    event = Kind(replay.events[at - 1].kind).name if at else "START"
    return Cut(
        seed, at, event, drawn.name, round(drawn.keep, 3), remains.dropped, remains.torn, remains.reordered, findings
    )


if __name__ == "__main__":
    logs.configure("error", "json")
    asyncio.run(cuts(Spec(**json.loads(sys.argv[1]))))
