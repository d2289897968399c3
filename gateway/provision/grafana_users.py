"""Users of a startup's organisation: its team as Editors, by e-mail address, or one user named like the slug.

The display name of an account that is made here ends in `SUFFIX`: only such accounts are ever removed. An account that
somebody else made is added to the organisation and stays in it. Admins of an organisation are left alone: one of them
is the account that provisions.

Grafana cannot create a user, a role and a membership at once. `POST /api/admin/users` with `OrgId` creates the first
and the last (with `auto_assign_org` on, its default); the role Editor follows. A password is shown only when all is
done; a crash leaves an account of ours that has no role and was never used, and that gets a new password.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from gateway.config import Startup
from gateway.errors import ProvisionError
from gateway.provision.grafana_api import NOT_FOUND, TAKEN, Grafana
from gateway.provision.plan import Credential, Resource

KIND = "user"
EDITOR, ADMIN = "Editor", "Admin"
SUFFIX = "(test bed)"
_WHOSE = "Grafana"
_PASSWORD_BYTES = 18
_NEVER_SEEN_YEARS = 5  # Grafana sets "last seen" of new users ten years back

Member = Mapping[str, Any]
"""`{"userId": 7, "login": …, "email": …, "name": …, "role": "Editor", "lastSeenAt": …}`"""


def wanted(startup: Startup) -> list[Resource]:
    """Return the wanted users of a startup's organisation."""
    return [_resource(startup.slug, login, EDITOR) for login in logins(startup)]


def logins(startup: Startup) -> list[str]:
    """Return the team's addresses in lower case, as Grafana keeps them, or the slug."""
    return list(dict.fromkeys(address.lower() for address in startup.team)) or [startup.slug]


async def actual(grafana: Grafana, startup: Startup | None, slug: str, members: Sequence[Member]) -> list[Resource]:
    """Return the members that are wanted or ours, and somebody else's account with the slug's name."""
    names = logins(startup) if startup else []
    there = {login: member for login in names if (member := find(members, login))}
    found = [_resource(slug, login, str(member["role"])) for login, member in there.items()]
    wanted_ids = {member["userId"] for member in there.values()}
    found += [
        _resource(slug, str(member["login"]), EDITOR)
        for member in members
        if is_ours(member) and member["role"] == EDITOR and member["userId"] not in wanted_ids
    ]
    if slug in names and slug not in there and (account := await _account(grafana, slug)) and not is_ours(account):
        found.append(Resource("grafana", KIND, f"{slug}/{slug}", {}, slug, is_ours=False))
    return found


def foreign_members(members: Iterable[Member], user: str) -> list[str]:
    """List the members that somebody else added, except the account that provisions."""
    others = (one for one in members if not is_ours(one) and user not in (one["login"], one["email"]))
    return [f"the user {one['login']}" for one in others]


def is_admin(members: Sequence[Member], user: str) -> bool:
    """Return whether the account that provisions is an Admin of this organisation."""
    member = find(members, user)
    return member is not None and member["role"] == ADMIN


def find(members: Iterable[Member], login: str) -> Member | None:
    """Return a member by login or e-mail address, in any case of letters."""
    name = login.lower()
    return next((one for one in members if name in (one["login"].lower(), one["email"].lower())), None)


def is_ours(account: Mapping[str, Any]) -> bool:
    """Return whether an account was made here."""
    return str(account.get("name", "")).endswith(SUFFIX)


async def save(grafana: Grafana, org_id: int, startup: str, login: str) -> list[Credential]:
    """Make somebody an Editor, and return the password if the account is new.

    Raises:
        ProvisionError: somebody else has an account of that name, or Grafana rejects the request.
    """
    api = grafana.within()
    member = find(await grafana.ask(api.organizations.organization_user_list(org_id)), login)
    if member is not None:
        return await _finish(grafana, org_id, startup, login, member)
    account = await _account(grafana, login)
    if account is None:
        return [await _create(grafana, org_id, startup, login)]
    if "@" not in login and not is_ours(account):
        raise ProvisionError(f"Grafana already has a user {login!r}, which provisioning did not make: rename it there")
    user = {"loginOrEmail": login, "role": EDITOR}
    await grafana.ask(api.organizations.organization_user_add(org_id, user), none_for=TAKEN)
    return []


async def remove(grafana: Grafana, org_id: int, login: str) -> None:
    """Remove a member; an account of ours that is then in no organisation is deleted."""
    api = grafana.within()
    member = find(await grafana.ask(api.organizations.organization_user_list(org_id)), login)
    if member is None or not is_ours(member):
        return
    ident = member["userId"]
    await grafana.ask(api.organizations.organization_user_delete(org_id, ident), none_for=[NOT_FOUND])
    if not await grafana.ask(api.users.get_user_organisations(ident)):
        await grafana.ask(api.admin.delete_user(ident), none_for=[NOT_FOUND])


async def _create(grafana: Grafana, org_id: int, startup: str, login: str) -> Credential:
    api, password = grafana.within(), _password()
    user = {"login": login, "name": f"{login.split('@')[0]} {SUFFIX}", "password": password, "OrgId": org_id}
    made = await grafana.ask(api.admin.create_user(user | ({"email": login} if "@" in login else {})))
    try:
        await _only_here(grafana, org_id, made["id"])
        await grafana.ask(api.organizations.organization_user_update(org_id, made["id"], EDITOR))
    except ProvisionError:
        await grafana.ask(api.admin.delete_user(made["id"]), none_for=[NOT_FOUND])
        raise
    return Credential(startup, _WHOSE, login, password)


async def _only_here(grafana: Grafana, org_id: int, ident: int) -> None:
    orgs = await grafana.ask(grafana.within().users.get_user_organisations(ident))
    if {org["orgId"] for org in orgs} != {org_id}:
        raise ProvisionError(
            f"Grafana at {grafana.url} gives new users an organisation of their own: set its auto_assign_org to "
            "true (GF_USERS_AUTO_ASSIGN_ORG), which is its default"
        )


async def _finish(grafana: Grafana, org_id: int, startup: str, login: str, member: Member) -> list[Credential]:
    """Add a missing role; before that, replace a password that nobody can know."""
    if member["role"] in (EDITOR, ADMIN):
        return []
    api, made = grafana.within(), []
    if is_ours(member) and _never_seen(member):
        password = _password()
        await grafana.ask(api.admin.change_user_password(member["userId"], password))
        made.append(Credential(startup, _WHOSE, login, password))
    await grafana.ask(api.organizations.organization_user_update(org_id, member["userId"], EDITOR))
    return made


async def _account(grafana: Grafana, login: str) -> Mapping[str, Any] | None:
    account: Mapping[str, Any] | None = await grafana.ask(grafana.within().users.find_user(login), none_for=[NOT_FOUND])
    return account


def _never_seen(member: Member) -> bool:
    year = str(member.get("lastSeenAt", ""))[:4]
    return year.isdecimal() and int(year) < datetime.now(UTC).year - _NEVER_SEEN_YEARS


def _password() -> str:
    """Return a password that meets Grafana's strong policy: lower-case and capital letters, digits and a symbol."""
    while True:
        text = secrets.token_urlsafe(_PASSWORD_BYTES)
        kinds = (str.islower, str.isupper, str.isdecimal, lambda one: not one.isalnum())
        if all(any(map(kind, text)) for kind in kinds):
            return text


def _resource(slug: str, login: str, role: str) -> Resource:
    return Resource("grafana", KIND, f"{slug}/{login}", {"role": EDITOR if role == ADMIN else role}, slug)
