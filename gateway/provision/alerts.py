"""Alert rules of a startup, in the form of Grafana's alerting provisioning API. Pure.

`device silent`, one for each measurement: a device that was seen in the last seven days has sent nothing for
`silent_after` of the rule. Each device has its own alert. After seven days it counts as retired.

`out of range`, one for each startup: the gateway rejected values outside the rules' ranges. Such values are never
stored, so that a query of the readings would miss them; the rejections are queried. Each device and measurement has its
own alert.

No data is not a problem: no device was ever seen, or nothing was rejected. While InfluxDB does not answer, alerts stay
as they are: that is not a device's fault, and the gateway's own metrics report it. Rules are written with provenance,
so that Grafana lets nobody edit them: no change of a startup can be lost. Silence a rule, or copy it and edit the copy.
Source: Grafana's "Alerting provisioning HTTP API" and its InfluxDB plugin.
"""

from __future__ import annotations

from gateway.config import Startup, TopicRule
from gateway.provision import grafana_influxql as influxql
from gateway.provision.dashboard_json import digest
from gateway.provision.grafana_names import home_uid, uid
from gateway.provision.grafana_panels import Json, source

GROUP = "testbed"
HASH = "testbed_generated"
"""Annotation with the hash of the generated rule."""

_SEEN_S = 7 * 86_400
_REJECTED_S = 600
_EXPRESSION = {"type": "__expr__", "uid": "__expr__"}


def alert_rules(startup: Startup) -> list[Json]:
    """Return every alert rule of a startup."""
    rules = [silent(startup, measurement, rule) for measurement, rule in startup.topics.items()]
    return [*rules, out_of_range(startup)] if influxql.has_ranges(startup) else rules


def silent(startup: Startup, measurement: str, rule: TopicRule) -> Json:
    """Return the alert for devices that no longer send this measurement."""
    after_s: float = rule.silent_after
    query = influxql.received(measurement, rule, after_s)
    return _rule(
        startup,
        uid(startup.slug, measurement, "silent"),
        f"{measurement}: device silent",
        _conditions(startup.slug, query, max(_SEEN_S, round(2 * after_s)), "lt", 0.5),
        {
            "summary": f"{{{{ $labels.device }}}} has sent no {measurement} for {after_s / 60:g} minutes",
            "description": "Is it switched on? Is it connected? What does its feedback topic say?",
        },
        {"measurement": measurement},
    )


def out_of_range(startup: Startup) -> Json:
    """Return the alert for values outside their range in the last ten minutes."""
    return _rule(
        startup,
        uid(startup.slug, "out-of-range"),
        "out of range",
        _conditions(startup.slug, influxql.out_of_range(), _REJECTED_S, "gt", 0),
        {
            "summary": "{{ $labels.device }} sends {{ $labels.measurement }} values that are out of range",
            "description": "They are rejected. The dashboards show how many; the feedback topic says which and why.",
        },
        {},
    )


def _rule(
    startup: Startup, ident: str, title: str, data: list[Json], annotations: dict[str, str], labels: dict[str, str]
) -> Json:
    content: Json = {
        "uid": ident,
        "title": title,
        "folderUID": home_uid(startup.slug),
        "ruleGroup": GROUP,
        "condition": "C",
        "data": data,
        "noDataState": "OK",
        "execErrState": "KeepLast",
        "for": "0s",
        "isPaused": False,
        "labels": {"startup": startup.slug, **labels},
    }
    return content | {"annotations": {**annotations, HASH: digest(content | {"annotations": annotations})}}


def _conditions(slug: str, query: str, back_s: int, compare: str, limit: float) -> list[Json]:
    """Return query A, its last value in each series B, and the comparison C."""
    model = {"datasource": source(slug), "query": query, "rawQuery": True, "resultFormat": "time_series"}
    evaluator = {"type": compare, "params": [limit]}
    return [
        _query("A", home_uid(slug), back_s, model),
        _query("B", "__expr__", 0, {"datasource": _EXPRESSION, "type": "reduce", "expression": "A", "reducer": "last"}),
        _query(
            "C",
            "__expr__",
            0,
            {
                "datasource": _EXPRESSION,
                "type": "threshold",
                "expression": "B",
                "conditions": [{"evaluator": evaluator}],
            },
        ),
    ]


def _query(ident: str, data_source: str, back_s: int, model: Json) -> Json:
    return {
        "refId": ident,
        "queryType": "",
        "datasourceUid": data_source,
        "relativeTimeRange": {"from": back_s, "to": 0},
        "model": {"refId": ident, "intervalMs": 1000, "maxDataPoints": 43_200, **model},
    }
