"""Dashboards out of topic rules, in Grafana's classic dashboard JSON. Pure: the same rules give the same JSON.

For each measurement: a panel a field, the newest reading of each device, what was refused of it. For the startup: when
each device was last seen in any measurement, and everything that was refused. Each carries two tags,

    testbed-generated       so that it is found
    generated:1a2b3c4d      a hash of all the rest, so that it is known whether a newer one has to be written

Schema version 39 (Grafana 11.0) is the oldest of those supported; newer servers migrate it as they read it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from gateway.config import Startup, TopicRule
from gateway.provision import grafana_influxql as influxql
from gateway.provision import grafana_panels as panels
from gateway.provision.grafana_names import OVERVIEW, uid
from gateway.provision.grafana_panels import HALF, WIDTH, Json

TAG = "testbed-generated"
HASH_TAG = "generated:"
SCHEMA_VERSION = 39
_HASH = 8


def generate(startup: Startup, measurement: str, rule: TopicRule) -> Json:
    """The dashboard of one measurement."""
    slug = startup.slug
    several = [panels.of_field(slug, measurement, name, rule) for name in rule.fields]
    several += [
        panels.last_seen(slug, measurement, rule),
        panels.rejections_over_time(slug, measurement),
        panels.rejections(slug, measurement),
    ]
    widths = [*(HALF for _ in rule.fields), WIDTH, HALF, HALF]
    variables = [_variable(slug, tag, influxql.values_of(tag, measurement)) for tag in influxql.tags(rule)]
    return _dashboard(startup, uid(slug, measurement), measurement, panels.placed(several, widths), variables)


def overview(startup: Startup) -> Json:
    """The dashboard of all devices."""
    slug = startup.slug
    several = [panels.rejections_over_time(slug), panels.rejections(slug)]
    several += [panels.last_seen(slug, measurement, rule) for measurement, rule in startup.topics.items()]
    widths = [HALF, HALF, *(WIDTH for _ in startup.topics)]
    names = dict.fromkeys(tag for rule in startup.topics.values() for tag in influxql.tags(rule))
    variables = [_variable(slug, tag, influxql.values_of(tag)) for tag in names]
    return _dashboard(startup, uid(slug, OVERVIEW), "All devices", panels.placed(several, widths), variables)


def generate_all(startup: Startup) -> list[Json]:
    """Every dashboard of a startup."""
    return [overview(startup), *(generate(startup, name, rule) for name, rule in startup.topics.items())]


def hash_in(tags: Sequence[str]) -> str:
    """The hash in a dashboard's tags; empty where there is none."""
    return next((tag.removeprefix(HASH_TAG) for tag in tags if tag.startswith(HASH_TAG)), "")


def digest(content: Json) -> str:
    """A short hash of what was generated."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_HASH]


def _dashboard(startup: Startup, ident: str, title: str, several: list[Json], variables: list[Json]) -> Json:
    content: Json = {
        "uid": ident,
        "title": title,
        "description": (
            f"Generated from the topic rules of {startup.name}. Edit it as you like: what you save stays, and a newer "
            "generated one is put beside it."
        ),
        "schemaVersion": SCHEMA_VERSION,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "annotations": {"list": []},
        "links": [_siblings()],
        "templating": {"list": variables},
        "panels": several,
    }
    return content | {"tags": [TAG, HASH_TAG + digest(content)]}


def _variable(slug: str, tag: str, query: str) -> Json:
    """Several values or all. `.*` for all also takes in what has no such tag, and keeps the query short."""
    return {
        "name": tag,
        "label": tag,
        "type": "query",
        "datasource": panels.source(slug),
        "query": {"refId": tag, "query": query},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "options": [],
        "regex": "",
        "hide": 0,
        "skipUrlSync": False,
    }


def _siblings() -> Json:
    return {
        "title": "Generated dashboards",
        "type": "dashboards",
        "tags": [TAG],
        "asDropdown": True,
        "icon": "external link",
        "includeVars": True,
        "keepTime": True,
        "targetBlank": False,
        "tooltip": "",
        "url": "",
    }
