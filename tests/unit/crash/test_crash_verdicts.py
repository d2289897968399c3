"""Verdicts of the faults, and the parts that make them. Nothing here starts a gateway."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from gateway.model import Counts
from tests.builders import ROOT
from tests.crash.fleet import POISON, Device, is_poison
from tests.crash.points import Point, reached
from tests.crash.preload import Faults
from tests.crash.readback import SEQ, Found
from tests.crash.scenario import scenarios
from tests.crash.verdict import Line
from tests.servers import Mosquitto, find

GOOD, BAD = 100_000, 100_009
LEDGER = Counts(received=2, accepted=1, rejected=1, stored=1)


def line(stored: dict[int, int], dead: set[int], ledger: Counts = LEDGER, exits: int = 0) -> Line:
    scenario = next(one for one in scenarios().values() if not one.exits)
    found = {"acme": Found(Counter(stored), dead, ledger)}
    return Line(scenario, 1, 2, {"acme": {GOOD, BAD}}, found, 0.1, 0.1, 0, exits, ())


def test_everything_is_where_it_belongs() -> None:
    """A good reading in the store, poison in the dead letters, a balanced ledger."""
    assert line({GOOD: 1}, {BAD}).good


@pytest.mark.parametrize(
    ("stored", "dead", "figure"),
    [
        ({}, {BAD}, "lost"),
        ({GOOD: 1}, set(), "lost"),
        ({GOOD: 1, BAD: 1}, set(), "lost"),
        ({GOOD: 2}, {BAD}, "duplicated"),
        ({}, {GOOD, BAD}, "misjudged"),
    ],
)
def test_what_is_missing_or_too_much_is_counted(stored: dict[int, int], dead: set[int], figure: str) -> None:
    """One record that is gone, twice there or in the wrong place fails the scenario."""
    found = line(stored, dead)
    assert not found.good
    assert found.as_json()[figure] == 1


@pytest.mark.parametrize("ledger", [Counts(received=2, accepted=1, stored=1), Counts(1, 1, 0, 0, 1, 0)])
def test_the_ledger_must_balance_and_nothing_may_wait(ledger: Counts) -> None:
    """Counts that do not add up fail the scenario, and so does a reading that is still in the journal."""
    assert not line({GOOD: 1}, {BAD}, ledger).good


def test_a_gateway_that_ends_by_itself_fails() -> None:
    """Also if nothing is lost by it."""
    assert not line({GOOD: 1}, {BAD}, exits=1).good


@pytest.mark.parametrize("kind", range(len(POISON)))
def test_poison_names_its_number(tmp_path: Path, kind: int) -> None:
    """Whatever is wrong with a message, its number is found in the bytes that the dead letter has."""
    if find("mosquitto") is None:
        pytest.skip("not installed: mosquitto")
    device = Device(Mosquitto(tmp_path), "d", "t", GOOD, 0)
    number = GOOD + 9 + 10 * kind
    assert is_poison(number)
    match = SEQ.search(device.payload(number).decode("utf-8", "backslashreplace"))
    assert match is not None
    assert int(match[1]) == number


@pytest.mark.parametrize("when", ["before", "within", "after"])
def test_a_kill_point_kills_once(tmp_path: Path, when: str) -> None:
    """The process ends by SIGKILL at the chosen call; one that is started again with the same point is left alone."""
    program = (
        "import time, gateway.topics as t\nfor _ in range(9): t.device_is_legal('a'); time.sleep(0.01)\nprint('end')"
    )
    point = Point("gateway.topics:device_is_legal", when, (3, 7), 0.001)  # type: ignore[arg-type]
    env = os.environ | point.env(Random(1), tmp_path / "tokens", 1)
    command = [sys.executable, "-c", program]
    first = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=False)
    again = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (first.returncode, first.stdout) == (-signal.SIGKILL, "")
    assert (again.returncode, again.stdout) == (0, "end\n")
    assert reached(tmp_path / "tokens") == 1


def test_faults_of_the_disk_concern_its_directory_alone(tmp_path: Path) -> None:
    """Writes, reads and fsyncs below the directory fail while the switch is on, and nothing else does."""
    if find("cc") is None and find("gcc") is None:
        pytest.skip("not installed: gcc")
    under = tmp_path / "state"
    under.mkdir()
    faults = Faults(tmp_path / "faults", under)
    program = f"""
import json, os, time
def failed(path, call):
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        call(fd)
    except OSError as error:
        return error.errno
    return 0
calls = [lambda fd: os.write(fd, b"x"), lambda fd: os.pread(fd, 1, 0), os.fsync]
print(json.dumps([[failed(path, call) for call in calls] for path in ({str(under / "x")!r}, {str(tmp_path / "y")!r})]))
print(time.time())
"""
    faults.set(write_errno=5, read_errno=30, sync_errno=28, clock_s=3600)
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=os.environ | faults.env, capture_output=True, text=True, check=True)
    found, now = done.stdout.splitlines()
    assert json.loads(found) == [[5, 30, 28], [0, 0, 0]]
    plain = subprocess.run([sys.executable, "-c", "import time; print(time.time())"], capture_output=True, check=True)
    assert 3500 < float(now) - float(plain.stdout) < 3700
