"""Dashboards from topic rules, in Grafana's classic dashboard JSON. Pure: the same rules give the same JSON.

For each measurement: a panel for each field, the newest reading of each device, and its rejections. For the startup:
when each device was last seen in any measurement, and all rejections. Each has two tags,

    testbed-generated       to find it
    generated:1a2b3c4d      a hash of the rest, to know whether a newer one must be written

Schema version 39 (Grafana 11.0) is the oldest that is supported; newer servers migrate it when they read it.
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
    """Return the dashboard of a measurement."""
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
    """Return the dashboard of all devices."""
    slug = startup.slug
    several = [panels.rejections_over_time(slug), panels.rejections(slug)]
    several += [panels.last_seen(slug, measurement, rule) for measurement, rule in startup.topics.items()]
    widths = [HALF, HALF, *(WIDTH for _ in startup.topics)]
    names = dict.fromkeys(tag for rule in startup.topics.values() for tag in influxql.tags(rule))
    variables = [_variable(slug, tag, influxql.values_of(tag)) for tag in names]
    return _dashboard(startup, uid(slug, OVERVIEW), "All devices", panels.placed(several, widths), variables)


def generate_all(startup: Startup) -> list[Json]:
    """Return every dashboard of a startup."""
    return [overview(startup), *(generate(startup, name, rule) for name, rule in startup.topics.items())]


def hash_in(tags: Sequence[str]) -> str:
    """Return the hash in a dashboard's tags; empty if there is none."""
    return next((tag.removeprefix(HASH_TAG) for tag in tags if tag.startswith(HASH_TAG)), "")


def digest(content: Json) -> str:
    """Return a short hash of generated content."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_HASH]


def _dashboard(startup: Startup, ident: str, title: str, several: list[Json], variables: list[Json]) -> Json:
    content: Json = {
        "uid": ident,
        "title": title,
        "description": (
            f"Generated from the topic rules of {startup.name}. Edit it as you like: your changes are kept, and newer "
            "generated dashboards are written beside it."
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
    """Return a variable for several values or all: `.*` includes series without the tag, and keeps queries short."""
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
