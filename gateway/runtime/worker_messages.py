"""The messages between a worker and the supervisor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.core import Metric

from gateway.config import Config
from gateway.health import Health
from gateway.model import Readings, Reason, Rejection
from gateway.state.devices import Device


@dataclass(frozen=True, slots=True)
class LiveEvents:
    """Worker: readings and rejections for the live feeds. `missed` counts the events of each startup that were too
    many to send."""

    readings: Readings
    rejections: Sequence[Rejection]
    missed: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Report:
    """Worker, every second: its health."""

    health: Health


@dataclass(frozen=True, slots=True)
class Changed:
    """Worker, every second: some of the devices that have changed since the last message."""

    devices: Sequence[Device]


@dataclass(frozen=True, slots=True)
class Use:
    """Supervisor, first and after each reload: the configuration as the supervisor has it, and the startups that this
    worker serves."""

    config: Config
    startups: frozenset[str]


@dataclass(frozen=True, slots=True)
class Request:
    """Supervisor: replay a dead letter or, without one, report metrics. The reply has the same `number`."""

    number: int
    dead_letter: int | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """Worker: to a `Request`. `problem` says why a dead letter could not be replayed."""

    number: int
    families: Sequence[Metric] = ()
    reasons: Sequence[Reason] = ()
    problem: str = ""


Message = Use | LiveEvents | Report | Changed | Request | Reply
