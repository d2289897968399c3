"""Generated dashboards on the server: written, found again, and never written over somebody's edits.

Grafana counts a dashboard's saves in its `version`. A tag of each of ours says which save it is:

    testbed-generated, generated:1a2b3c4d, save:3

While `version` is 3, the dashboard is as generated. Any save by somebody else makes it 4: it is edited, and stays. The
next generated one is written beside it, with the UID `…-v2` and the title `… (generated 2)`, and so on; from then on it
is the newest, which later ones replace until it is edited too. An edited dashboard that was generated from the present
rules is up to date: nothing is written beside it.

Saves never overwrite: they name the version that they replace, and Grafana rejects them (412, from 13 on 409) if
somebody saved in between. In Grafana 12 and 13 `version` is the resource's generation, which behaves the same; should
an upgrade renumber it, dashboards count as edited, and nothing is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.errors import ProvisionError
from gateway.provision import dashboard_json
from gateway.provision.grafana_api import NOT_FOUND, TAKEN, Grafana
from gateway.provision.grafana_names import beside, home_uid, split_beside
from gateway.provision.grafana_panels import Json
from gateway.provision.plan import Resource

KIND = "dashboard"
MOST_BESIDE = 99
_SAVE_TAG = "save:"
_MOST_FOUND = 5000


@dataclass(frozen=True, slots=True)
class Found:
    """A dashboard on the server. `generated` is the hash in its tags, or empty; `saved` the save that a tag names."""

    uid: str
    title: str
    version: int
    generated: str
    saved: int
    editor: str

    @property
    def is_edited(self) -> bool:
        return not self.generated or self.saved != self.version

    @property
    def state(self) -> str:
        """Hash and, if it was edited, by whom. For people."""
        return f"{self.generated or 'unknown'}, edited by {self.editor} and kept" if self.is_edited else self.generated


def wanted(slug: str, models: Iterable[Json]) -> list[Resource]:
    """Return the wanted dashboards of a startup."""
    return [
        _resource(slug, model["uid"], {"generated": dashboard_json.hash_in(model["tags"]), KIND: model})
        for model in models
    ]


async def actual(grafana: Grafana, org_id: int, slug: str, wanted_ones: Mapping[str, Resource]) -> list[Resource]:
    """Return the newest of each wanted dashboard (by UID), and generated ones that are no longer wanted."""
    found = []
    everything = await in_org(grafana, org_id)
    for base, resource in wanted_ones.items():
        newest = await newest_of(grafana, org_id, base, everything)
        if newest is not None:
            is_same = newest.generated == resource.spec["generated"]
            found.append(resource if is_same else _resource(slug, base, {"generated": newest.state}))
    kept = {uid for uid in everything if uid in wanted_ones or split_beside(uid)[0] in wanted_ones}
    left = (one for uid, one in everything.items() if one.generated and uid not in kept)
    return found + [_resource(slug, one.uid, {"generated": one.state}, is_ours=not one.is_edited) for one in left]


async def in_org(grafana: Grafana, org_id: int, base: str = "") -> dict[str, Found]:
    """Return every dashboard of an organisation by UID, or those of a base. Search may list some that are gone."""
    api = grafana.within(org_id)
    hits = await grafana.ask(api.search.search_dashboards(type_="dash-db", limit=_MOST_FOUND))
    uids = [hit["uid"] for hit in hits if base in ("", hit["uid"], split_beside(hit["uid"])[0])]
    several = [await read(grafana, org_id, uid) for uid in uids]
    return {one.uid: one for one in several if one is not None}


async def newest_of(grafana: Grafana, org_id: int, base: str, known: Mapping[str, Found]) -> Found | None:
    """Return the one with the highest number. Search may lag (from Grafana 12 on), so that the next are tried too."""
    several = [one for one in known.values() if one.uid == base or split_beside(one.uid)[0] == base]
    newest = max(several, key=lambda one: _number(one.uid, base), default=None)
    number = _number(newest.uid, base) if newest else 0
    while (after := await read(grafana, org_id, beside(base, number + 1))) is not None:
        newest, number = after, number + 1
    return newest


async def read(grafana: Grafana, org_id: int, uid: str) -> Found | None:
    """Return a dashboard, or None."""
    answer = await grafana.ask(grafana.within(org_id).dashboard.get_dashboard(uid), none_for=[NOT_FOUND])
    if answer is None:
        return None
    model, meta = answer["dashboard"], answer["meta"]
    tags = model.get("tags") or []
    save = next((tag.removeprefix(_SAVE_TAG) for tag in tags if tag.startswith(_SAVE_TAG)), "")
    return Found(
        uid=uid,
        title=model.get("title", uid),
        version=int(model.get("version") or meta.get("version") or 0),
        generated=dashboard_json.hash_in(tags) if dashboard_json.TAG in tags else "",
        saved=int(save) if save.isdecimal() else 0,
        editor=meta.get("updatedBy") or "somebody",
    )


async def write(grafana: Grafana, org_id: int, slug: str, model: Json) -> None:
    """Write a generated dashboard: over its unedited predecessor, or beside an edited one.

    Raises:
        ProvisionError: Grafana rejects the request, or there are too many edited ones.
    """
    base = model["uid"]
    newest = await newest_of(grafana, org_id, base, await in_org(grafana, org_id, base))
    number = _number(newest.uid, base) if newest else 0
    if newest and newest.generated == dashboard_json.hash_in(model["tags"]):
        return
    if newest and not newest.is_edited and await _save(grafana, org_id, slug, model, number, newest.version):
        return
    while number < MOST_BESIDE:
        number += 1
        if await _save(grafana, org_id, slug, model, number, 0):
            return
    raise ProvisionError(
        f"Grafana has {MOST_BESIDE} edited versions of the dashboard {base}: delete those that are not needed"
    )


async def remove(grafana: Grafana, org_id: int, uid: str) -> None:
    """Remove a generated dashboard, unless somebody has edited it in the meantime."""
    found = await read(grafana, org_id, uid)
    if found is None:
        return
    if found.is_edited:
        raise ProvisionError(f"the dashboard {uid} was edited by {found.editor} in the meantime and stays: plan again")
    await grafana.ask(grafana.within(org_id).dashboard.delete_dashboard(uid), none_for=[NOT_FOUND])


async def _save(grafana: Grafana, org_id: int, slug: str, model: Json, number: int, replaced: int) -> bool:
    """Save as version `replaced` + 1. Return False if the UID is taken, or no longer at version `replaced`."""
    saved = model | {
        "id": None,
        "uid": beside(model["uid"], number),
        "title": model["title"] if number == 1 else f"{model['title']} (generated {number})",
        "tags": [*model["tags"], f"{_SAVE_TAG}{replaced + 1}"],
    }
    body: dict[str, Any] = {
        "dashboard": saved | ({"version": replaced} if replaced else {}),
        "folderUid": home_uid(slug),
        "message": "generated by testbed-gateway from the topic rules",
        "overwrite": False,
    }
    answer = await grafana.ask(grafana.within(org_id).dashboard.update_dashboard(body), none_for=TAKEN)
    return answer is not None


def _number(uid: str, base: str) -> int:
    return 1 if uid == base else split_beside(uid)[1]


def _resource(slug: str, uid: str, spec: Mapping[str, Any], *, is_ours: bool = True) -> Resource:
    return Resource("grafana", KIND, f"{slug}/{uid}", spec, slug, is_ours)
