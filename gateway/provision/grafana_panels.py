"""Panels of generated dashboards, as Grafana's dashboard JSON. Pure.

    {"type": "timeseries", "id": 1, "gridPos": {…}, "datasource": {…}, "targets": [{…}], "fieldConfig": {…}, …}

Only options that Grafana 11, 12 and 13 share are used. A rule's range is drawn as thresholds; it does not fix the axis,
on which 21 °C between -40 and 125 would be a flat line. In tables it is also the column's min and max.
Source: Grafana's dashboard schema (`kinds/dashboard`), and the frames that its InfluxDB plugin answers with
(`influxql/buffered/response_parser.go`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.config import TopicRule
from gateway.config.startup_file import FieldRule
from gateway.provision import grafana_influxql as influxql
from gateway.provision.grafana_names import home_uid

Json = dict[str, Any]

WIDTH, HALF, HEIGHT = 24, 12, 8
_UNIT = re.compile(r"[A-Za-z0-9µμ]+")
_PREFIXED = re.compile(r"(prefix|suffix|time|si|count|currency|bool):.+")
_BOOLEANS = {
    "true": {"text": "yes", "color": "green", "index": 0},
    "false": {"text": "no", "color": "text", "index": 1},
}
_TIME = "Time"  # the plugin's name of the time column


def source(slug: str) -> Json:
    """Return the reference to the startup's data source."""
    return {"type": "influxdb", "uid": home_uid(slug)}


def unit(name: str) -> str:
    """Return a rule's unit as Grafana takes it: one of its own names unchanged, any other string as a suffix.

    Grafana itself shows an unknown name (`pH`) as a suffix.
    """
    return name if not name or _UNIT.fullmatch(name) or _PREFIXED.fullmatch(name) else f"suffix:{name}"


def thresholds(rule: FieldRule) -> Json:
    """Return thresholds: green within the rule's range, red outside. The first step is from minus infinity."""
    steps: list[Json] = [{"color": "green", "value": None}]
    if rule.min is not None:
        steps = [{"color": "red", "value": None}, {"color": "green", "value": rule.min}]
    if rule.max is not None:
        steps.append({"color": "red", "value": rule.max})
    return {"mode": "absolute", "steps": steps}


def of_field(slug: str, measurement: str, name: str, rule: TopicRule) -> Json:
    """Return a field's panel: lines for numbers, strips of states for anything else."""
    field = rule.fields[name]
    query = influxql.over_time(measurement, rule, name)
    alias = " ".join(f"$tag_{tag}" for tag in influxql.captures(rule))
    panel = _panel(slug, name, _target(slug, query, alias=alias))
    return panel | (_lines(field) if field.type in ("float", "int") else _states(field))


def last_seen(slug: str, measurement: str, rule: TopicRule) -> Json:
    """Return a table of when each device was last seen and with what. Its time range is longer than the dashboard's."""
    target = _target(slug, influxql.newest(measurement, rule), table=True)
    columns = [*influxql.captures(rule), _TIME, *rule.fields, *rule.tags]
    overrides = [_column(_TIME, unit="dateTimeFromNow", displayName="last seen")]
    overrides += [_value_column(name, field) for name, field in rule.fields.items()]
    return (
        _panel(slug, f"Last seen: {measurement}", target)
        | _table(columns, overrides, "last seen")
        | {"timeFrom": influxql.SEEN_WITHIN}
    )


def rejections_over_time(slug: str, measurement: str = "") -> Json:
    """Return the rejections by reason, as bars."""
    target = _target(slug, influxql.rejections_over_time(measurement), alias="$tag_code")
    custom = {"drawStyle": "bars", "fillOpacity": 80, "lineWidth": 0, "stacking": {"mode": "normal", "group": "A"}}
    defaults = {"unit": "short", "decimals": 0, "color": {"mode": "palette-classic"}, "custom": custom}
    return _panel(slug, "Rejected, by reason", target) | {
        "type": "timeseries",
        "fieldConfig": _fields(defaults),
        "options": _graph("sum"),
    }


def rejections(slug: str, measurement: str = "") -> Json:
    """Return the rejections by device and reason, as a table."""
    target = _target(slug, influxql.rejections(measurement), table=True)
    columns = [influxql.DEVICE, influxql.MEASUREMENT, influxql.CODE, "rejected"]
    return _panel(slug, "Rejected, by device", target) | _table(
        columns, [], "rejected", hidden=[_TIME], descending=True
    )


def placed(panels: Sequence[Json], widths: Sequence[int]) -> list[Json]:
    """Number the panels and place them side by side, row by row."""
    x = y = 0
    result = []
    for number, (panel, width) in enumerate(zip(panels, widths, strict=True), start=1):
        if x + width > WIDTH:
            x, y = 0, y + HEIGHT
        result.append({"id": number, "gridPos": {"h": HEIGHT, "w": width, "x": x, "y": y}, **panel})
        x += width
    return result


def _panel(slug: str, title: str, target: Json) -> Json:
    return {"title": title, "datasource": source(slug), "targets": [target]}


def _target(slug: str, query: str, *, alias: str = "", table: bool = False) -> Json:
    return {
        "refId": "A",
        "datasource": source(slug),
        "query": query,
        "rawQuery": True,
        "resultFormat": "table" if table else "time_series",
        "alias": alias,
    }


def _lines(rule: FieldRule) -> Json:
    custom = {
        "drawStyle": "line",
        "lineInterpolation": "linear",
        "lineWidth": 1,
        "fillOpacity": 0,
        "showPoints": "auto",
        "spanNulls": False,
        "thresholdsStyle": {"mode": "line" if _has_range(rule) else "off"},
    }
    defaults = {
        "unit": unit(rule.unit),
        "color": {"mode": "palette-classic"},
        "thresholds": thresholds(rule),
        "custom": custom,
    }
    return {"type": "timeseries", "fieldConfig": _fields(defaults), "options": _graph("lastNotNull")}


def _states(rule: FieldRule) -> Json:
    defaults: Json = {"color": {"mode": "palette-classic"}, "custom": {"fillOpacity": 70, "lineWidth": 0}}
    if rule.type == "bool":
        defaults["mappings"] = [{"type": "value", "options": _BOOLEANS}]
    options = {"mergeValues": True, "showValue": "auto", "rowHeight": 0.9, "alignValue": "left", "legend": _legend()}
    return {"type": "state-timeline", "fieldConfig": _fields(defaults), "options": options}


def _table(
    columns: Sequence[str], overrides: list[Json], sort: str, *, hidden: Sequence[str] = (), descending: bool = False
) -> Json:
    """Return a table. The plugin answers with columns in any order, so that it is given here."""
    order = {name: place for place, name in enumerate(columns)}
    organize = {"indexByName": order, "excludeByName": dict.fromkeys(hidden, True), "renameByName": {}}
    return {
        "type": "table",
        "fieldConfig": _fields({"custom": {"align": "auto"}}, overrides),
        "options": {"showHeader": True, "cellHeight": "sm", "sortBy": [{"displayName": sort, "desc": descending}]},
        "transformations": [{"id": "organize", "options": organize}],
    }


def _value_column(name: str, rule: FieldRule) -> Json:
    properties: Json = {"unit": unit(rule.unit)} if rule.unit else {}
    if rule.type == "bool":
        properties["mappings"] = [{"type": "value", "options": _BOOLEANS}]
    if _has_range(rule):
        limits = {"min": rule.min, "max": rule.max}
        properties |= {key: value for key, value in limits.items() if value is not None}
        properties["thresholds"] = thresholds(rule)
    return _column(name, **properties)


def _column(name: str, **properties: Any) -> Json:
    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [{"id": key, "value": value} for key, value in properties.items()],
    }


def _has_range(rule: FieldRule) -> bool:
    return rule.min is not None or rule.max is not None


def _fields(defaults: Mapping[str, Any], overrides: Sequence[Json] = ()) -> Json:
    return {"defaults": dict(defaults), "overrides": [one for one in overrides if one["properties"]]}


def _graph(calculation: str) -> Json:
    legend = _legend() | {"calcs": [calculation]}
    return {"legend": legend, "tooltip": {"mode": "multi", "sort": "none"}}


def _legend() -> Json:
    return {"showLegend": True, "displayMode": "list", "placement": "bottom"}
