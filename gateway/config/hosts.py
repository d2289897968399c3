"""Several hosts: which one serves which startup. Pure.

All hosts have the same configuration. A startup's file names its host, or several, which then share its messages.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gateway.config.models import Config, Settings
from gateway.config.startup_file import Startup
from gateway.errors import HostUnknown

Wrong = tuple[str, str, str]
"""Setting of a startup's file that is wrong, what was expected, and what was found."""


def on_host(config: Config, name: str | None) -> Config:
    """Return the configuration as the host `name` uses it; `name` is None where there is only one host.

    Raises:
        HostUnknown: there are several and none is given, or there is no such host.
    """
    known = ", ".join(config.settings.hosts)
    if name is None and known:
        raise HostUnknown(
            f"`hosts` in gateway.yaml has {known}, and this gateway was not given its own: "
            "start it with --host NAME, or set GATEWAY_HOST"
        )
    if name is not None and name not in config.settings.hosts:
        there = f"there are: {known}" if known else "there are none"
        raise HostUnknown(
            f"expected --host (or GATEWAY_HOST) to be a name under `hosts` in gateway.yaml ({there}); got {name!r}"
        )
    return config.model_copy(update={"host": name})


def looks(config: Config) -> bool:
    """Return whether this host looks for messages of no startup: one does so for all, the first with a startup."""
    if config.host is None:
        return True
    serving = {name for startup in config.startups for name in config.hosts_of(startup)[:1]}
    return next((name for name in config.settings.hosts if name in serving), None) == config.host


def wrong_hosts(settings: Settings, startup: Startup) -> Iterator[Wrong]:
    """Yield what does not fit together in a startup's file and the hosts."""
    known = ", ".join(settings.hosts) or "none yet"
    for name in startup.host:
        if name not in settings.hosts:
            yield "host", f"a name under hosts in gateway.yaml ({known})", repr(name)
    store = settings.store if startup.store is None else settings.stores.get(startup.store)
    if len(settings.hosts) > 1 and store is not None and store.kind == "sqlite":
        yield (
            "store",
            "a store of kind influxdb, since there are several hosts: the file of a SQLite store is on one of them",
            f"sqlite ({'the default store' if startup.store is None else f'the store {startup.store}'})",
        )


def wrong_settings(settings: Settings) -> Iterator[Wrong]:
    """Yield what does not fit together in gateway.yaml."""
    if len(settings.hosts) > 1 and settings.mqtt.sessions == "one":
        yield (
            "mqtt.sessions",
            "startup, since there are several hosts: a startup's session is what moves between them",
            "one",
        )


def load_of(startup: Startup) -> float:
    """Return the messages a second that a startup brings to each of its hosts, by its quota."""
    return startup.quota.messages / max(1, len(startup.host))


def loads(config: Config) -> dict[str, list[Startup]]:
    """Return the startups of each host."""
    found: dict[str, list[Startup]] = {name: [] for name in config.settings.hosts}
    for startup in config.startups:
        for name in config.hosts_of(startup):
            found[name].append(startup)
    return found


def least_loaded(config: Config) -> str | None:
    """Return the host with the smallest quotas in sum; None where there is only one."""
    sums = {name: sum(map(load_of, startups)) for name, startups in loads(config).items()}
    return min(sums, key=lambda name: sums[name], default=None)


def without_host(config: Config, name: str) -> dict[str, tuple[str, ...]]:
    """Return the new hosts of the startups of a host that is to be drained: each goes to the one that has the smallest
    quotas in sum by then, the largest first.

    Raises:
        HostUnknown: there is no such host, or no other one.
    """
    by_host = loads(config)
    if name not in by_host:
        raise HostUnknown(f"there is no host {name!r}; there are: {', '.join(by_host) or 'none'}")
    leaving = by_host.pop(name)
    sums = {other: sum(map(load_of, startups)) for other, startups in by_host.items()}
    if not sums:
        raise HostUnknown(f"{name} is the only host: add another one under `hosts` in gateway.yaml first")
    moved: dict[str, tuple[str, ...]] = {}
    for startup in sorted(leaving, key=lambda one: (-load_of(one), one.slug)):
        moved[startup.slug] = _replaced(startup, name, sums)
    return moved


def _replaced(startup: Startup, name: str, sums: dict[str, float]) -> tuple[str, ...]:
    """Return a startup's hosts without one of them; where it was the only one, with another in its place."""
    left: Sequence[str] = [other for other in startup.host if other != name]
    if not left:
        left = [min(sums, key=lambda other: sums[other])]
    for other in left:
        sums[other] += startup.quota.messages / len(left) - (load_of(startup) if other in startup.host else 0)
    return tuple(left)
