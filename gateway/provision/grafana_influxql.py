"""InfluxQL of dashboards and alert rules. Pure.

Grafana replaces `$…`: `$timeFilter` and `$__interval` (by the InfluxDB plugin), `${device:regex}` (by the dashboard's
variable, its values escaped and joined by `|`, or `.*` for all). A regular expression that matches the empty string
also matches the series without the tag. A query is one statement: the plugin reads no further answer.

Rejections are not readings. The gateway counts them in a measurement of the startup's own bucket:

    gateway_rejections,device=th-1,code=out_of_range,measurement=climate count=3i 1795000060000000000

with one point for each device, code and measurement in each interval; unknown tags are left out.
"""

# ruff: noqa: S608  # names pass through `identifier`, which quotes them

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gateway.config import Startup, TopicRule
from gateway.config.startup_file import REJECTIONS
from gateway.model import Code
from gateway.stores.influxql import identifier, string

COUNT = "count"
CODE, DEVICE, MEASUREMENT = "code", "device", "measurement"

SEEN_WITHIN = "7d"
"""Time range of "last seen"."""


def captures(rule: TopicRule) -> list[str]:
    """Return the device and the other captures of the topic, which distinguish the series of a rule."""
    return [DEVICE, *(name for name in rule.template.captures if name != DEVICE)]


def tags(rule: TopicRule) -> list[str]:
    """Return every tag of a rule's readings."""
    return [*captures(rule), *rule.tags]


def over_time(measurement: str, rule: TopicRule, field: str) -> str:
    """Query a field, with a series for each device: means of numbers, the newest of everything else."""
    aggregate = "mean" if rule.fields[field].type in ("float", "int") else "last"
    return (
        f"SELECT {aggregate}({identifier(field)}) FROM {identifier(measurement)} WHERE {_chosen(tags(rule))} "
        f"GROUP BY time($__interval), {_names(captures(rule))} fill(none)"
    )


def newest(measurement: str, rule: TopicRule) -> str:
    """Query the newest reading of each device, with its own time."""
    return (
        f"SELECT {_names([*rule.fields, *rule.tags])} FROM {identifier(measurement)} WHERE {_chosen(tags(rule))} "
        f"GROUP BY {_names(captures(rule))} ORDER BY time DESC LIMIT 1"
    )


def values_of(tag: str, measurement: str = "") -> str:
    """Query the values of a tag, for a variable."""
    place = f" FROM {identifier(measurement)}" if measurement else ""
    return f"SHOW TAG VALUES{place} WITH KEY = {identifier(tag)}"


def rejections_over_time(measurement: str = "") -> str:
    """Query how many records were rejected, with a series for each reason."""
    return (
        f"SELECT sum({identifier(COUNT)}) FROM {identifier(REJECTIONS)} WHERE {_rejected(measurement)} "
        f"GROUP BY time($__interval), {identifier(CODE)} fill(none)"
    )


def rejections(measurement: str = "") -> str:
    """Query how many records were rejected, with a row for each device and reason."""
    return (
        f"SELECT sum({identifier(COUNT)}) AS {identifier('rejected')} FROM {identifier(REJECTIONS)} "
        f"WHERE {_rejected(measurement)} GROUP BY {_names([DEVICE, MEASUREMENT, CODE])}"
    )


def received(measurement: str, rule: TopicRule, within_s: float) -> str:
    """Query how many values arrived within some seconds, with a row for each device seen in the whole time range.

    0 is added for each device that was seen, so that a silent device has a row at all. Only its newest point in the
    time range is read for that, so that the range may be long.
    """
    parts = [_recent(measurement, field, within_s) for field in _watched(rule)]
    parts += [_seen(measurement, field) for field in _watched(rule)]
    return f'SELECT sum("n") FROM {", ".join(parts)} GROUP BY {identifier(DEVICE)}'


def out_of_range() -> str:
    """Query how many records were rejected for a value out of range, with a row for each device and measurement."""
    code = f"{identifier(CODE)} = {string(Code.OUT_OF_RANGE.value)}"
    return (
        f"SELECT sum({identifier(COUNT)}) FROM {identifier(REJECTIONS)} WHERE $timeFilter AND {code} "
        f"GROUP BY {_names([DEVICE, MEASUREMENT])}"
    )


def has_ranges(startup: Startup) -> bool:
    """Return whether any value of a startup can be out of range."""
    fields = (field for rule in startup.topics.values() for field in rule.fields.values())
    return any(field.min is not None or field.max is not None for field in fields)


def _watched(rule: TopicRule) -> list[str]:
    """Return fields such that each reading has at least one of them: a required one, or all."""
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


def _rejected(measurement: str) -> str:
    where = _chosen([DEVICE])
    return f"{where} AND {identifier(MEASUREMENT)} = {string(measurement)}" if measurement else where


def _chosen(names: Iterable[str]) -> str:
    return " AND ".join(["$timeFilter", *(f"{identifier(name)} =~ /^${{{name}:regex}}$/" for name in names)])


def _names(names: Sequence[str]) -> str:
    return ", ".join(identifier(name) for name in names)
