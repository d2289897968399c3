"""The outcomes of batches reach every listener, whatever becomes of one of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from structlog.testing import capture_logs

from gateway.feeds.fan_out import FanOut
from gateway.metrics import Metrics, exposition
from gateway.model import Reading, Readings, Rejection
from tests.builders import rejection
from tests.servers import eventually

READINGS: Readings = {"acme": [Reading("acme", "d", "climate", {}, {"n": 1}, 1)]}


class Notes:
    """A listener that notes all that it hears."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def accepted(self, readings: Readings, /) -> None:
        self.heard.append(readings)

    def rejected(self, rejections: Sequence[Rejection], /) -> None:
        self.heard.append(rejections)


class Broken(Notes):
    """A listener that cannot take readings while it is broken."""

    is_broken = True

    def accepted(self, readings: Readings, /) -> None:
        if self.is_broken:
            raise RuntimeError("no room")
        super().accepted(readings)


class Restless(Notes):
    """A listener whose own task ends twice: once by an error, once by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.runs = 0

    async def run(self) -> None:
        self.runs += 1
        if self.runs == 1:
            raise RuntimeError("lost the connection")
        if self.runs > 2:
            await asyncio.Event().wait()


def failures(metrics: Metrics) -> list[str]:
    text = exposition(metrics.families(), {}, {}, {}).decode()
    return [line for line in text.splitlines() if line.startswith("gateway_listener_failures_total")]


def test_every_listener_is_notified_of_every_outcome() -> None:
    """Each listener gets the readings and the rejections, as they are."""
    one, other = Notes(), Notes()
    fan_out = FanOut([one, other], Metrics())
    rejections = [rejection()]
    fan_out.accepted(READINGS)
    fan_out.rejected(rejections)
    assert one.heard == other.heard == [READINGS, rejections]


def test_a_failing_listener_costs_the_others_nothing() -> None:
    """What one listener raises stays with it: it has lost that batch, the others have not, and it gets the next."""
    before, broken, behind = Notes(), Broken(), Notes()
    fan_out = FanOut([before, broken, behind], Metrics())
    fan_out.accepted(READINGS)
    broken.is_broken = False
    fan_out.accepted(READINGS)
    assert before.heard == behind.heard == [READINGS, READINGS]
    assert broken.heard == [READINGS]


def test_failures_are_counted_each_and_logged_once() -> None:
    """Every failure is counted, by listener; of a row of failures the first is logged."""
    broken, metrics = Broken(), Metrics()
    fan_out = FanOut([broken], metrics)
    with capture_logs() as logs:
        for is_broken in (True, True, True, False, True):
            broken.is_broken = is_broken
            fan_out.accepted(READINGS)
    assert failures(metrics) == ['gateway_listener_failures_total{listener="Broken"} 4.0']
    assert [(log["log_level"], log["listener"], log["method"]) for log in logs] == [("error", "Broken", "accepted")] * 2


class Unprintable(Exception):  # what it is, not what went wrong
    """An error that cannot be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no words")


class Awkward(Notes):
    """A listener that raises the given error, whatever it hears, and in its own task the first time."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error
        self.runs = 0

    def accepted(self, _readings: Readings, /) -> None:
        raise self.error

    async def run(self) -> None:
        self.runs += 1
        if self.runs == 1:
            raise self.error
        await asyncio.Event().wait()


@pytest.mark.parametrize("error", [Unprintable(), asyncio.CancelledError()])
async def test_no_error_of_a_listener_reaches_the_messages(error: BaseException) -> None:
    """Neither an error whose text cannot be had, nor that of a cancelled future which a listener looked into."""
    awkward, behind = Awkward(error), Notes()
    fan_out = FanOut([awkward, behind], Metrics())
    fan_out.accepted(READINGS)
    assert behind.heard == [READINGS]
    running = asyncio.create_task(fan_out.run())
    await eventually(lambda: awkward.runs == 2)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert running.cancelled()


async def test_the_task_of_a_listener_is_started_again() -> None:
    """A listener's own task is run, and run again when it ends; the others have none, and nobody else ends."""
    restless = Restless()
    running = asyncio.create_task(FanOut([Notes(), restless], Metrics()).run())
    await eventually(lambda: restless.runs == 3)
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
