"""Users of a startup's organisation: its team as Editors, by e-mail address, or one user named like the slug.

Each has an account that is made here, and known by its id (`grafana_accounts`): only such accounts are added, changed
or removed. An account of a wanted login or address that somebody else made is a conflict, since its owner chose both,
and need not own the address; an operator who knows whose it is adds it to the organisation, where it is left alone.
Admins of an organisation are left alone too: one of them is the account that provisions.

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
from gateway.provision.grafana_accounts import GrafanaAccounts
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


async def actual(
    grafana: Grafana, accounts: GrafanaAccounts, startup: Startup | None, slug: str, members: Sequence[Member]
) -> list[Resource]:
    """Return the members that are ours, and what is in the way of those that are wanted."""
    ours = await accounts.logins(grafana, _ids(members))
    names = logins(startup) if startup else []
    found = [
        _resource(slug, login, str(member["role"]) if login in names else EDITOR)
        for member in members
        if (login := ours.get(member["userId"])) and (login in names or member["role"] == EDITOR)
    ]
    for login in names:
        if login in ours.values() or await accounts.made_for(grafana, login) is not None:
            continue
        if other := await _others(grafana, slug, login, members):
            found.append(other)
    return found


async def _others(grafana: Grafana, slug: str, login: str, members: Sequence[Member]) -> Resource | None:
    """Return somebody else's account with a wanted login or address, if there is one."""
    name = f"{slug}/{login}"
    if find(members, login) is not None:
        return Resource("grafana", KIND, name, {}, slug, is_ours=False, is_left_alone=True)
    if await grafana.ask(grafana.within().users.find_user(login), none_for=[NOT_FOUND]) is not None:
        return Resource("grafana", KIND, name, {}, slug, is_ours=False)
    return None


async def foreign_members(grafana: Grafana, accounts: GrafanaAccounts, members: Sequence[Member]) -> list[str]:
    """List the members that somebody else added, except the account that provisions."""
    ours = await accounts.logins(grafana, _ids(members))
    others = (one for one in members if one["userId"] not in ours and grafana.user not in (one["login"], one["email"]))
    return [f"the user {one['login']}" for one in others]


def is_admin(members: Sequence[Member], user: str) -> bool:
    """Return whether the account that provisions is an Admin of this organisation."""
    member = find(members, user)
    return member is not None and member["role"] == ADMIN


def find(members: Iterable[Member], login: str) -> Member | None:
    """Return a member by login or e-mail address, in any case of letters."""
    name = login.lower()
    return next((one for one in members if name in (one["login"].lower(), one["email"].lower())), None)


async def save(grafana: Grafana, accounts: GrafanaAccounts, org_id: int, startup: str, login: str) -> list[Credential]:
    """Make somebody an Editor, and return the password if the account is new.

    Raises:
        ProvisionError: somebody else has an account of that name, or Grafana rejects the request.
    """
    account = await accounts.made_for(grafana, login)
    if account is None:
        return [await _create(grafana, accounts, org_id, startup, login)]
    members = await grafana.ask(grafana.within().organizations.organization_user_list(org_id))
    member = next((one for one in members if one["userId"] == account["id"]), None)
    if member is not None:
        return await _finish(grafana, org_id, startup, login, member)
    await _add(grafana, org_id, account)
    return []


async def remove(grafana: Grafana, accounts: GrafanaAccounts, org_id: int, login: str) -> None:
    """Remove a member; an account of ours that is then in no organisation is deleted."""
    account = await accounts.made_for(grafana, login)
    if account is None:
        return
    api, ident = grafana.within(), account["id"]
    await grafana.ask(api.organizations.organization_user_delete(org_id, ident), none_for=[NOT_FOUND])
    if not await grafana.ask(api.users.get_user_organisations(ident)):
        await grafana.ask(api.admin.delete_user(ident), none_for=[NOT_FOUND])
        await accounts.forget(login)


async def _add(grafana: Grafana, org_id: int, account: Mapping[str, Any]) -> None:
    """Add an account to a further organisation. Grafana takes a login or address, so that its answer is checked."""
    api, user = grafana.within(), {"loginOrEmail": account["login"], "role": EDITOR}
    added = await grafana.ask(api.organizations.organization_user_add(org_id, user), none_for=TAKEN)
    if added is not None and added.get("userId") != account["id"]:
        await grafana.ask(api.organizations.organization_user_delete(org_id, added["userId"]), none_for=[NOT_FOUND])
        raise ProvisionError(
            f"Grafana at {grafana.url} has another account that answers to the login {account['login']!r}: rename or "
            "remove it there, then plan again"
        )


async def _create(grafana: Grafana, accounts: GrafanaAccounts, org_id: int, startup: str, login: str) -> Credential:
    api, password = grafana.within(), _password()
    user = {"login": login, "name": f"{login.split('@')[0]} {SUFFIX}", "password": password, "OrgId": org_id}
    made = await grafana.ask(api.admin.create_user(user | ({"email": login} if "@" in login else {})))
    await accounts.add(grafana, login, made["id"])
    try:
        await _only_here(grafana, org_id, made["id"])
        await grafana.ask(api.organizations.organization_user_update(org_id, made["id"], EDITOR))
    except ProvisionError:
        await grafana.ask(api.admin.delete_user(made["id"]), none_for=[NOT_FOUND])
        await accounts.forget(login)
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
    """Add a missing role to an account of ours; before that, replace a password that nobody can know."""
    if member["role"] in (EDITOR, ADMIN):
        return []
    api, made = grafana.within(), []
    if _never_seen(member):
        password = _password()
        await grafana.ask(api.admin.change_user_password(member["userId"], password))
        made.append(Credential(startup, _WHOSE, login, password))
    await grafana.ask(api.organizations.organization_user_update(org_id, member["userId"], EDITOR))
    return made


def _ids(members: Iterable[Member]) -> set[int]:
    return {member["userId"] for member in members}


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
