"""The InfluxQL that dashboards and alert rules ask with. Pure.

Grafana puts in what stands as `$…`: `$timeFilter` and `$__interval` (the InfluxDB plugin), `${device:regex}` (the
dashboard's variable, its values escaped and joined by `|`, or `.*` for all). A regular expression that matches the
empty text also finds the series that have no such tag. A query is one statement: the plugin reads no further answer.

Rejections are no readings. The gateway counts them into a measurement of the startup's own bucket:

    gateway_rejections,device=th-1,code=out_of_range,measurement=climate count=3i 1795000060000000000

one point for each device, code and measurement in each interval; tags that are not known are left out.
"""

# ruff: noqa: S608  # names go in by `identifier`, which quotes them

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gateway.config import Startup, TopicRule
from gateway.config.models import REJECTIONS
from gateway.model import Code
from gateway.stores.influxql import identifier, string

COUNT = "count"
CODE, DEVICE, MEASUREMENT = "code", "device", "measurement"

SEEN_WITHIN = "7d"
"""How far back "last seen" looks."""


def captures(rule: TopicRule) -> list[str]:
    """The device and what else the topic names: what tells one series of a rule from another."""
    return [DEVICE, *(name for name in rule.template.captures if name != DEVICE)]


def tags(rule: TopicRule) -> list[str]:
    """Every tag of a rule's readings."""
    return [*captures(rule), *rule.tags]


def over_time(measurement: str, rule: TopicRule, field: str) -> str:
    """One field, a series for each device: means of numbers, the newest of everything else."""
    aggregate = "mean" if rule.fields[field].type in ("float", "int") else "last"
    return (
        f"SELECT {aggregate}({identifier(field)}) FROM {identifier(measurement)} WHERE {_chosen(tags(rule))} "
        f"GROUP BY time($__interval), {_names(captures(rule))} fill(none)"
    )


def newest(measurement: str, rule: TopicRule) -> str:
    """The newest reading of each device, with its own time."""
    return (
        f"SELECT {_names([*rule.fields, *rule.tags])} FROM {identifier(measurement)} WHERE {_chosen(tags(rule))} "
        f"GROUP BY {_names(captures(rule))} ORDER BY time DESC LIMIT 1"
    )


def values_of(tag: str, measurement: str = "") -> str:
    """What a variable offers."""
    place = f" FROM {identifier(measurement)}" if measurement else ""
    return f"SHOW TAG VALUES{place} WITH KEY = {identifier(tag)}"


def rejections_over_time(measurement: str = "") -> str:
    """How many records were refused, a series for each reason."""
    return (
        f"SELECT sum({identifier(COUNT)}) FROM {identifier(REJECTIONS)} WHERE {_refused(measurement)} "
        f"GROUP BY time($__interval), {identifier(CODE)} fill(none)"
    )


def rejections(measurement: str = "") -> str:
    """How many records were refused, a row for each device and reason."""
    return (
        f"SELECT sum({identifier(COUNT)}) AS {identifier('refused')} FROM {identifier(REJECTIONS)} "
        f"WHERE {_refused(measurement)} GROUP BY {_names([DEVICE, MEASUREMENT, CODE])}"
    )


def heard(measurement: str, rule: TopicRule, within_s: float) -> str:
    """How many values came within some seconds, a row for each device that was seen in the whole time range.

    Those seen have 0 added: that is how a device that says nothing has a row at all. Only the newest point of the
    time range is read for it, so that the range may be long.
    """
    parts = [_recent(measurement, field, within_s) for field in _watched(rule)]
    parts += [_seen(measurement, field) for field in _watched(rule)]
    return f'SELECT sum("n") FROM {", ".join(parts)} GROUP BY {identifier(DEVICE)}'


def out_of_range() -> str:
    """How many records were refused for a value outside its range, a row for each device and measurement."""
    code = f"{identifier(CODE)} = {string(Code.OUT_OF_RANGE.value)}"
    return (
        f"SELECT sum({identifier(COUNT)}) FROM {identifier(REJECTIONS)} WHERE $timeFilter AND {code} "
        f"GROUP BY {_names([DEVICE, MEASUREMENT])}"
    )


def has_ranges(startup: Startup) -> bool:
    """Whether any value of a startup can be out of range."""
    fields = (field for rule in startup.topics.values() for field in rule.fields.values())
    return any(field.min is not None or field.max is not None for field in fields)


def _watched(rule: TopicRule) -> list[str]:
    """Fields of which each reading has at least one: a required one, else all."""
    required = [name for name, field in rule.fields.items() if field.required]
    return required[:1] or list(rule.fields)


def _recent(measurement: str, field: str, within_s: float) -> str:
    return (
        f'(SELECT count({identifier(field)}) AS "n" FROM {identifier(measurement)} '
        f"WHERE time > now() - {within_s:.0f}s GROUP BY {identifier(DEVICE)})"
    )


def _seen(measurement: str, field: str) -> str:
    newest_value = (
        f'(SELECT last({identifier(field)}) AS "newest" FROM {identifier(measurement)} '
        f"WHERE $timeFilter GROUP BY {identifier(DEVICE)})"
    )
    return f'(SELECT count("newest") * 0 AS "n" FROM {newest_value} GROUP BY {identifier(DEVICE)})'


def _refused(measurement: str) -> str:
    where = _chosen([DEVICE])
    return f"{where} AND {identifier(MEASUREMENT)} = {string(measurement)}" if measurement else where


def _chosen(names: Iterable[str]) -> str:
    return " AND ".join(["$timeFilter", *(f"{identifier(name)} =~ /^${{{name}:regex}}$/" for name in names)])


def _names(names: Sequence[str]) -> str:
    return ", ".join(identifier(name) for name in names)
