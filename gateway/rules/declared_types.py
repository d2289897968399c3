"""Types that rules declare, compared with those that are on disk: the store keeps the first for good."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from gateway import timestamps
from gateway.config import Config, Startup
from gateway.config.positions import parse, read
from gateway.errors import Problem
from gateway.rules.field_types import fits
from gateway.state.field_types import FieldType, Key


def type_problems(directory: Path, config: Config, known: Mapping[Key, FieldType]) -> list[Problem]:
    """Return a problem for each field to which a rule gives another type than it has."""
    return [problem for startup in config.startups for problem in _of_startup(directory, startup, known)]


def _of_startup(directory: Path, startup: Startup, known: Mapping[Key, FieldType]) -> Iterator[Problem]:
    for measurement, rule in startup.topics.items():
        for name, one in rule.fields.items():
            lock = known.get((startup.slug, measurement, name))
            if lock is not None and not fits(one.type, lock.type):
                path = directory / "startups" / f"{startup.slug}.yaml"
                where = ["topics", measurement, "fields", name, "type"]
                line = parse(read(path, str(path)), str(path)).line(where)
                yield Problem(str(path), line, ".".join(where), _expected(lock), one.type)


def _expected(lock: FieldType) -> str:
    return (
        f"{lock.type}, the type of its readings since {timestamps.to_rfc3339(lock.since_ns)}: the store keeps one type"
        " for a field. Give the field or the measurement another name or, if the store has no readings of it,"
        f" run `gateway types forget {lock.startup} {lock.measurement} {lock.field}`"
    )
