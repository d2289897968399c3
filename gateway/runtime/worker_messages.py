"""The messages between a worker and the supervisor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.core import Metric

from gateway.config import Config
from gateway.health import Health
from gateway.model import Reading, Reason, Rejection
from gateway.state.devices import Device


@dataclass(frozen=True, slots=True)
class Shown:
    """Worker: what came, for the live feeds. `missed` are events of each startup that were too many to be told."""

    readings: Mapping[str, Sequence[Reading]]
    rejections: Sequence[Rejection]
    missed: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Report:
    """Worker, every second: how it is, and the devices that have changed since the last report."""

    health: Health
    devices: Sequence[Device]


@dataclass(frozen=True, slots=True)
class Start:
    """Supervisor, first: the configuration as the supervisor has it, whatever has become of the files since."""

    config: Config


@dataclass(frozen=True, slots=True)
class Ask:
    """Supervisor: replay a dead letter or, without one, report metrics. `number` comes back with the answer."""

    number: int
    letter: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """Worker: to `Ask`. `problem` says why a letter could not be replayed."""

    number: int
    families: Sequence[Metric] = ()
    reasons: Sequence[Reason] = ()
    problem: str = ""


Message = Start | Shown | Report | Ask | Answer
