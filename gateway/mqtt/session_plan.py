"""Sessions that a worker should have at the broker: their names, their filters, and which are another's. Pure.

A session's name does not depend on who serves it, so that another worker or host takes it over, with what the broker
holds for it. Where several hosts share the messages of a startup, the first of them has the session of that name, and
each other one has a session of its own beside it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from gateway.config import Config, Startup
from gateway.config.hosts import looks
from gateway.mqtt.session import MAX_PACKET
from gateway.mqtt.subscriptions import SHARED, without_group
from gateway.topics import subscriptions

ALL = "_all"
"""Name of the session of all startups, with `mqtt.sessions: one`."""
BESIDE_PAYLOAD = 70 << 10
"""Bytes of a packet for the longest topic, 4 KiB of properties, and what is fixed."""
Filters = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class SessionPlan:
    """`wanted` are the filters of each session by its name; `elsewhere` those of the sessions that another worker or
    host has. `slugs` are those of all startups; the worker `looks` for messages that belong to none. `max_packet` are
    the bytes that a session reads of one packet, at most: more than any payload quota permits."""

    wanted: Filters
    elsewhere: Filters
    slugs: frozenset[str]
    looks: bool
    max_packet: int = MAX_PACKET

    @classmethod
    def of(cls, config: Config, served: Collection[str], worker: int = 0) -> SessionPlan:
        """Return the plan of a worker that serves these startups."""
        slugs = frozenset(startup.slug for startup in config.startups)
        own = [startup for startup in config.startups if startup.slug in served]
        is_one = config.settings.mqtt.sessions == "one"
        if is_one:
            every = (rule.template for startup in own for rule in startup.topics.values())
            wanted = {ALL: subscriptions(every)} if own else {}
        else:
            wanted = {name_on(config, startup): filters_of(config, startup) for startup in own}
        elsewhere = {
            name: filters_of(config, startup)
            for startup in config.startups
            for name in _of_others(startup, name_on(config, startup), is_own=startup.slug in served)
        }
        is_looking = worker == 0 and not is_one and looks(config)
        return cls(wanted, elsewhere, slugs, is_looking, max_packet(config))


def max_packet(config: Config) -> int:
    """Return the bytes of the largest packet that a session takes."""
    largest = max((startup.quota.payload for startup in config.startups), default=0)
    return max(MAX_PACKET, largest + BESIDE_PAYLOAD)


def name_on(config: Config, startup: Startup) -> str:
    """Return the name of a startup's session on this host. Slugs and hosts have no dots."""
    others = config.hosts_of(startup)[1:]
    return f"{startup.slug}.{config.host}" if config.host in others else startup.slug


def startup_of(name: str) -> str:
    """Return the slug of the startup whose messages a session brings."""
    return name.partition(".")[0]


def filters_of(config: Config, startup: Startup) -> tuple[str, ...]:
    """Return the filters of a startup's session."""
    plain = subscriptions((rule.template for rule in startup.topics.values()), startup.slug)
    if config.host is None or len(startup.host) < 2:
        return plain
    return shared(plain, config.settings.mqtt.client_id)


def shared(filters: Iterable[str], client_id: str) -> tuple[str, ...]:
    """Return the filters of sessions that share the messages: each message goes to one of them (MQTT 5.0, section
    4.8.2)."""
    group = re.sub(r"[/+#]", "_", client_id)
    return tuple(f"{SHARED}{group}/{name}" for name in filters)


def other_form(filters: Iterable[str], client_id: str) -> tuple[str, ...]:
    """Return the same filters, plain where they are shared and the reverse. A session that was taken over may have
    them: its startup was moved from one host to several, or back."""
    found: list[str] = []
    for name in filters:
        found += [without_group(name)] if is_shared(name) else shared((name,), client_id)
    return tuple(found)


def is_shared(name: str) -> bool:
    """Return whether a filter is that of a shared subscription."""
    return name.startswith(SHARED)


def _of_others(startup: Startup, name: str, *, is_own: bool) -> Iterator[str]:
    """Yield the names of a startup's sessions that this worker does not have. `name` is what this host has."""
    if not is_own:
        yield name
    if name != startup.slug or not is_own:
        yield startup.slug
