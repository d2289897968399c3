"""Messages between a worker and the supervisor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.core import Metric

from gateway.config import Config, Settings, Startup
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
    """Supervisor, first and after each reload: the startups that there are now, those of them that have `changed` since
    the last `Use`, the slugs of those that this worker serves, and the host."""

    settings: Settings
    slugs: Sequence[str]
    changed: Sequence[Startup]
    served: frozenset[str]
    host: str | None = None

    @classmethod
    def of(cls, config: Config, before: Config | None, served: frozenset[str]) -> Use:
        """Return what a worker that has the configuration `before` needs to know."""
        known = before.by_slug if before else {}
        changed = [startup for startup in config.startups if known.get(startup.slug) is not startup]
        return cls(config.settings, list(config.by_slug), changed, served, config.host)

    def config(self, before: Config | None) -> Config:
        """Return the configuration. Unchanged startups are the same objects as `before`, and keep what was compiled."""
        known = dict(before.by_slug) if before else {}
        known.update((startup.slug, startup) for startup in self.changed)
        startups = tuple(known[slug] for slug in self.slugs)
        return Config(settings=self.settings, startups=startups, host=self.host)


@dataclass(frozen=True, slots=True)
class Request:
    """Supervisor: replay a dead letter, let a startup's lane go on, forget the type of a field (startup, measurement,
    name), or else report metrics. The reply has the same `number`."""

    number: int
    dead_letter: int | None = None
    release: str | None = None
    forget: tuple[str, str, str] | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """Worker: to a `Request`. `problem` says why it could not do that."""

    number: int
    families: Sequence[Metric] = ()
    reasons: Sequence[Reason] = ()
    released: bool = False
    problem: str = ""
    forgotten: int = 0


Message = Use | LiveEvents | Report | Changed | Request | Reply
