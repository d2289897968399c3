"""Grafana: an organisation for each startup, with its users, a data source, a folder, dashboards and alert rules.

Grafana OSS lets every user of an organisation query each of its data sources, so that only separate organisations keep
startups apart. Organisations are found by name: ours end in the slug in brackets (`grafana_names`), and hold our data
source or folder, or nothing yet. One of that name with other contents is somebody else's: a conflict.

Nothing that people made is removed. The organisation or folder of a startup that is no longer configured is removed
only if everything in it is ours; edited dashboards, and users whom somebody else added, keep it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from gateway.config import Config, Startup
from gateway.errors import AdminRejected, ProvisionError
from gateway.provision import dashboard_json, grafana_contents, grafana_dashboards, grafana_users
from gateway.provision.grafana_accounts import GrafanaAccounts
from gateway.provision.grafana_api import NOT_FOUND, Grafana
from gateway.provision.grafana_contents import FOLDER_KIND, RULE_KIND, SOURCE_KIND
from gateway.provision.grafana_names import org_name, slug_of
from gateway.provision.plan import Credential, Resource, Step

KIND = "organisation"


@dataclass(frozen=True, slots=True)
class Org:
    """An organisation on the server, with the slug as in its name."""

    id: int
    name: str
    slug: str


class GrafanaServer:
    """An implementation of `plan.Server` for Grafana.

    `home` returns where Grafana finds a startup's readings; it may read secret files, so it is called in threads.
    """

    name = "grafana"

    def __init__(
        self,
        url: str,
        user: str,
        password: str,
        home: Callable[[str], grafana_contents.Home],
        accounts: GrafanaAccounts,
    ) -> None:
        self._grafana = Grafana(url.rstrip("/"), user, password)
        self._accounts = accounts
        self._home = home

    def wanted(self, config: Config) -> list[Resource]:
        """Return the organisation first; dashboards and rules last, since they name the folder and data source."""
        return [resource for startup in config.startups for resource in self._wanted_of(startup)]

    async def actual(self, config: Config) -> list[Resource]:
        """Return everything of ours, and whatever has a wanted name."""
        found: list[Resource] = []
        orgs = await self._orgs()
        for startup in config.startups:
            found += await self._actual_of(startup, orgs)
        for org in orgs:
            if org.slug not in config.by_slug:
                found += await self._left_of(org)
        return found

    async def apply(self, step: Step) -> list[Credential]:
        """Apply a step; a new user gets a password, which is shown once."""
        if step.resource.kind == KIND:
            await (self._remove_org(step.resource) if step.action == "remove" else self._save_org(step.resource))
            return []
        org = await self._org(step.resource.startup)
        if step.action == "remove":
            await self._remove(org, step.resource)
            return []
        return await self._save(org, step.resource)

    async def close(self) -> None:
        await self._grafana.close()

    def _wanted_of(self, startup: Startup) -> list[Resource]:
        slug = startup.slug
        return [
            _org_resource(slug, org_name(startup)),
            *grafana_users.wanted(startup),
            grafana_contents.wanted_source(startup, self._home(slug)),
            grafana_contents.wanted_folder(startup),
            *grafana_dashboards.wanted(slug, dashboard_json.generate_all(startup)),
            *grafana_contents.wanted_rules(startup),
        ]

    async def _actual_of(self, startup: Startup, orgs: Sequence[Org]) -> list[Resource]:
        """Return a startup's organisation and its contents."""
        alike = [org for org in orgs if org.slug.lower() == startup.slug]
        own = [org for org in alike if org.slug == startup.slug]
        wanted = await asyncio.to_thread(self._wanted_of, startup)
        if not alike:
            return await grafana_users.actual(self._grafana, self._accounts, startup, startup.slug, [])
        if not own:  # one that differs only in case is somebody else's, and people would mistake it for the startup's
            return _only_conflict(alike[0], wanted)
        if len(own) > 1:
            names = " and ".join(repr(org.name) for org in own)
            raise ProvisionError(f"Grafana has the organisations {names}: only one may be called ({startup.slug})")
        inside = await self._inside(own[0], startup, wanted)
        if _is_marked(inside) or not await grafana_contents.made_by_people(self._grafana, own[0].id, startup.slug):
            return [_org_resource(startup.slug, own[0].name), *inside]
        return _only_conflict(own[0], wanted)

    async def _left_of(self, org: Org) -> list[Resource]:
        """Return what is ours in the organisation of a startup that is no longer configured."""
        members = await self._members(org)
        if not grafana_users.is_admin(members, self._grafana.user):
            return []
        inside = await self._inside(org, None, [])
        if not _is_marked(inside):
            return []
        foreign = await self._foreign(org)
        is_free = not foreign
        kept = [resource for resource in inside if is_free or resource.kind != FOLDER_KIND]
        if is_free:
            return [_org_resource(org.slug, org.name), *kept]
        spec = {"name": org.name, "holds": foreign}
        return [Resource("grafana", KIND, org.slug, spec, org.slug, is_ours=False, is_left_alone=True), *kept]

    async def _inside(self, org: Org, startup: Startup | None, wanted: Sequence[Resource]) -> list[Resource]:
        """Return the contents of an organisation, in the order of `wanted`."""
        grafana, slug = self._grafana, org.slug
        members = await self._members(org)
        if not grafana_users.is_admin(members, grafana.user):
            raise AdminRejected(
                f"{grafana.user!r} is not an Admin of Grafana's organisation {org.name!r}: make it one (or, if the "
                "organisation is not the test bed's, rename that)"
            )
        return [
            *await grafana_users.actual(grafana, self._accounts, startup, slug, members),
            *await grafana_contents.actual_source(grafana, org.id, slug),
            *await grafana_contents.actual_folder(grafana, org.id, slug),
            *await grafana_dashboards.actual(grafana, org.id, slug, _by_uid(wanted, grafana_dashboards.KIND)),
            *await grafana_contents.actual_rules(grafana, org.id, slug, _by_uid(wanted, RULE_KIND)),
        ]

    async def _save(self, org: Org, resource: Resource) -> list[Credential]:
        grafana, slug = self._grafana, resource.startup
        match resource.kind:
            case grafana_users.KIND:
                return await grafana_users.save(grafana, self._accounts, org.id, slug, _uid(resource))
            case grafana_contents.SOURCE_KIND:
                home = await asyncio.to_thread(self._home, slug)
                await grafana_contents.save_source(grafana, org.id, resource, home.token)
            case grafana_contents.FOLDER_KIND:
                await grafana_contents.save_folder(grafana, org.id, slug)
            case grafana_dashboards.KIND:
                await grafana_dashboards.write(grafana, org.id, slug, resource.spec["dashboard"])
            case grafana_contents.RULE_KIND:
                await grafana_contents.save_rule(grafana, org.id, resource.spec["rule"])
        return []

    async def _remove(self, org: Org, resource: Resource) -> None:
        grafana, slug = self._grafana, resource.startup
        match resource.kind:
            case grafana_users.KIND:
                await grafana_users.remove(grafana, self._accounts, org.id, _uid(resource))
            case grafana_contents.SOURCE_KIND:
                await grafana_contents.remove_source(grafana, org.id, slug)
            case grafana_contents.FOLDER_KIND:
                await self._check_free(org)
                await grafana_contents.remove_folder(grafana, org.id, slug)
            case grafana_dashboards.KIND:
                await grafana_dashboards.remove(grafana, org.id, _uid(resource))
            case grafana_contents.RULE_KIND:
                await grafana_contents.remove_rule(grafana, org.id, _uid(resource))

    async def _save_org(self, resource: Resource) -> None:
        """Create the organisation, or rename it to match the startup."""
        api, name = self._grafana.within(), resource.spec["name"]
        org = next((org for org in await self._orgs() if org.slug == resource.name), None)
        if org is None:
            await self._grafana.ask(api.organization.create_organization(name))
        elif org.name != name:
            await self._grafana.ask(api.organizations.update_organization(org.id, {"name": name}))

    async def _remove_org(self, resource: Resource) -> None:
        org = next((org for org in await self._orgs() if org.slug == resource.name), None)
        if org is not None:
            await self._check_free(org)
            api = self._grafana.within().organizations
            await self._grafana.ask(api.delete_organization(org.id), none_for=[NOT_FOUND])

    async def _check_free(self, org: Org) -> None:
        if others := await self._foreign(org):
            raise ProvisionError(
                f"Grafana's organisation {org.name!r} also holds {', '.join(others)}, which provisioning did not make: "
                "move or delete that, then plan again"
            )

    async def _foreign(self, org: Org) -> list[str]:
        """List the contents and members of an organisation that are not ours. For people."""
        people = await grafana_users.foreign_members(self._grafana, self._accounts, await self._members(org))
        return people + await grafana_contents.made_by_people(self._grafana, org.id, org.slug)

    async def _org(self, slug: str) -> Org:
        for org in await self._orgs():
            if org.slug == slug:
                return org
        raise ProvisionError(f"Grafana has no organisation for {slug} yet: plan and apply again")

    async def _orgs(self) -> list[Org]:
        found = await self._grafana.ask(self._grafana.within().organizations.list_organization())
        orgs = [Org(one["id"], one["name"], slug_of(one["name"])) for one in found]
        return [org for org in orgs if org.slug]

    async def _members(self, org: Org) -> list[grafana_users.Member]:
        members: list[grafana_users.Member] = await self._grafana.ask(
            self._grafana.within().organizations.organization_user_list(org.id)
        )
        return members


def _org_resource(slug: str, name: str, *, is_ours: bool = True) -> Resource:
    return Resource("grafana", KIND, slug, {"name": name}, slug, is_ours)


def _only_conflict(org: Org, wanted: Sequence[Resource]) -> list[Resource]:
    """Report somebody else's organisation, and leave alone what belongs into it."""
    inside = [replace(resource, is_left_alone=True) for resource in wanted[1:]]
    return [_org_resource(wanted[0].name, org.name, is_ours=False), *inside]


def _is_marked(inside: Sequence[Resource]) -> bool:
    return any(resource.kind in (SOURCE_KIND, FOLDER_KIND) for resource in inside)


def _by_uid(wanted: Sequence[Resource], kind: str) -> Mapping[str, Resource]:
    return {_uid(resource): resource for resource in wanted if resource.kind == kind}


def _uid(resource: Resource) -> str:
    """Return the part of a resource's name after the slug."""
    return resource.name.partition("/")[2]
