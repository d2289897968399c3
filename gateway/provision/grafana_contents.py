"""A startup's data source, folder and alert rules on the server, and what in an organisation is not ours.

The data source sends the startup's read token as a header, so that InfluxDB and not Grafana keeps startups apart.
Grafana never shows a secret again: a fingerprint of the token is kept in `jsonData`, where the plugin ignores it, so
that a new token is noticed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from gateway.config import Startup
from gateway.errors import ProvisionError
from gateway.provision import alerts, grafana_dashboards
from gateway.provision.grafana_api import NOT_FOUND, TAKEN, Grafana
from gateway.provision.grafana_names import DATA_SOURCE, FOLDER, home_uid
from gateway.provision.grafana_panels import Json
from gateway.provision.plan import Key, Resource
from gateway.provision.secret_files import fingerprint

SOURCE_KIND, FOLDER_KIND, RULE_KIND = "data source", "folder", "alert rule"
_VIRTUAL = ("general", "sharedwithme")  # listed among the folders by some versions, but not folders
_TOKEN = "testbedToken"  # noqa: S105  # the name of a setting


class Home(NamedTuple):
    """Place of a startup's readings for Grafana: URL of InfluxDB, bucket, read token (None until it exists), and
    the resource that makes the token.
    """

    url: str
    bucket: str
    token: str | None
    made_by: Key | None = None


def wanted_source(startup: Startup, home: Home) -> Resource:
    """Return the wanted data source; without a token yet its fingerprint is empty."""
    spec = {"url": home.url, "database": home.bucket, "token": fingerprint(home.token), "default": True}
    resource = _resource(SOURCE_KIND, startup.slug, startup.slug, spec)
    return replace(resource, follows={"token": home.made_by}) if home.made_by else resource


def wanted_folder(startup: Startup) -> Resource:
    """Return the wanted folder. The startup may change its title."""
    return _resource(FOLDER_KIND, startup.slug, startup.slug, {})


def wanted_rules(startup: Startup) -> list[Resource]:
    """Return the wanted alert rules."""
    source = (Key("grafana", SOURCE_KIND, startup.slug),)
    specs = [{"generated": rule["annotations"][alerts.HASH], "rule": rule} for rule in alerts.alert_rules(startup)]
    return [replace(_resource(RULE_KIND, startup.slug, spec["rule"]["uid"], spec), needs=source) for spec in specs]


async def actual_source(grafana: Grafana, org_id: int, slug: str) -> list[Resource]:
    """Return the data source, if it exists."""
    found = await grafana.ask(
        grafana.within(org_id).datasource.get_datasource_by_uid(home_uid(slug)), none_for=[NOT_FOUND]
    )
    if found is None:
        return []
    settings = found.get("jsonData") or {}
    spec = {
        "url": found["url"],
        "database": settings.get("dbName", ""),
        "token": settings.get(_TOKEN, ""),
        "default": found["isDefault"],
    }
    return [_resource(SOURCE_KIND, slug, slug, spec)]


async def actual_folder(grafana: Grafana, org_id: int, slug: str) -> list[Resource]:
    """Return the folder, if it exists."""
    found = await grafana.ask(grafana.within(org_id).folder.get_folder(home_uid(slug)), none_for=[NOT_FOUND])
    return [] if found is None else [_resource(FOLDER_KIND, slug, slug, {})]


async def actual_rules(grafana: Grafana, org_id: int, slug: str, wanted_ones: Mapping[str, Resource]) -> list[Resource]:
    """Return the rules that are ours, and any with a wanted UID."""
    found = []
    for rule in await _rules(grafana, org_id):
        uid, generated = rule["uid"], _generated(rule)
        wanted = wanted_ones.get(uid)
        if wanted and generated == wanted.spec["generated"]:
            found.append(wanted)
        elif wanted or generated:
            found.append(_resource(RULE_KIND, slug, uid, {"generated": generated}, is_ours=bool(generated)))
    return found


async def save_source(grafana: Grafana, org_id: int, resource: Resource, token: str | None) -> None:
    """Create or change the data source.

    Raises:
        ProvisionError: there is no read token yet, or Grafana rejects the request.
    """
    if token is None:
        raise ProvisionError(
            f"{resource.startup} has no InfluxDB read token yet, which its Grafana data source requires: "
            "provision InfluxDB first (name it in provision.yaml, then `gateway provision apply`)"
        )
    uid, api = home_uid(resource.startup), grafana.within(org_id).datasource
    body = _source(uid, resource.spec, token)
    if await grafana.ask(api.get_datasource_by_uid(uid), none_for=[NOT_FOUND]) is None:
        await grafana.ask(api.create_datasource(body))
    else:
        await grafana.ask(api.update_datasource_by_uid(uid, body))


async def save_folder(grafana: Grafana, org_id: int, slug: str) -> None:
    """Create the folder."""
    await grafana.ask(grafana.within(org_id).folder.create_folder(FOLDER, uid=home_uid(slug)), none_for=TAKEN)
    if not await actual_folder(grafana, org_id, slug):
        raise ProvisionError(f"the Grafana organisation of {slug} has another folder {FOLDER!r}: rename that")


async def save_rule(grafana: Grafana, org_id: int, rule: Json) -> None:
    """Create or change an alert rule."""
    api = grafana.within(org_id).alertingprovisioning
    if any(one["uid"] == rule["uid"] for one in await _rules(grafana, org_id)):
        await grafana.ask(api.update_alertrule(rule["uid"], rule))
    else:
        await grafana.ask(api.create_alertrule(rule))


async def remove_source(grafana: Grafana, org_id: int, slug: str) -> None:
    api = grafana.within(org_id).datasource
    await grafana.ask(api.delete_datasource_by_uid(home_uid(slug)), none_for=[NOT_FOUND])


async def remove_folder(grafana: Grafana, org_id: int, slug: str) -> None:
    await grafana.ask(grafana.within(org_id).folder.delete_folder(home_uid(slug)), none_for=[NOT_FOUND])


async def remove_rule(grafana: Grafana, org_id: int, uid: str) -> None:
    await grafana.ask(grafana.within(org_id).alertingprovisioning.delete_alertrule(uid), none_for=[NOT_FOUND])


async def made_by_people(grafana: Grafana, org_id: int, slug: str) -> list[str]:
    """List what in an organisation is not ours, or was edited. For people."""
    api = grafana.within(org_id)
    boards = await grafana_dashboards.in_org(grafana, org_id)
    return [
        *(f"the dashboard {one.title!r}" for one in boards.values() if one.is_edited),
        *(f"the alert rule {one['title']!r}" for one in await _rules(grafana, org_id) if not _generated(one)),
        *_others("folder", await grafana.ask(api.folder.get_all_folders()), "title", slug),
        *_others("data source", await grafana.ask(api.datasource.list_datasources()), "name", slug),
    ]


async def _rules(grafana: Grafana, org_id: int) -> list[Json]:
    rules: list[Json] = await grafana.ask(grafana.within(org_id).alertingprovisioning.get_alertrules_all())
    return rules


def _generated(rule: Mapping[str, Any]) -> str:
    return str((rule.get("annotations") or {}).get(alerts.HASH, ""))


def _others(kind: str, found: Iterable[Mapping[str, Any]], name: str, slug: str) -> list[str]:
    return [f"the {kind} {one[name]!r}" for one in found if one["uid"] not in (home_uid(slug), *_VIRTUAL)]


def _source(uid: str, spec: Mapping[str, Any], token: str) -> Json:
    """Return the data source. Source: "InfluxDB data source" in Grafana's documentation, InfluxQL with InfluxDB 2."""
    return {
        "uid": uid,
        "name": DATA_SOURCE,
        "type": "influxdb",
        "access": "proxy",
        "url": spec["url"],
        "isDefault": True,
        "jsonData": {
            "version": "InfluxQL",
            "httpMode": "POST",  # a query that names many devices is longer than some proxies allow a URL to be
            "dbName": spec["database"],
            "httpHeaderName1": "Authorization",
            _TOKEN: fingerprint(token),
        },
        "secureJsonData": {"httpHeaderValue1": f"Token {token}"},
    }


def _resource(kind: str, slug: str, name: str, spec: Mapping[str, Any], *, is_ours: bool = True) -> Resource:
    full = slug if name == slug else f"{slug}/{name}"
    return Resource("grafana", kind, full, spec, slug, is_ours)
