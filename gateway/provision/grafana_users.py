"""Who may use a startup's organisation: its team as Editors, by e-mail address, or one user named like the slug.

An account that is made here ends its display name in `SUFFIX`: only such accounts are ever taken out again. An account
that somebody else made is added to the organisation and stays in it. Admins of an organisation are left alone: one of
them is the account that provisions.

Grafana has no way to make a user, a role and a membership at once. `POST /api/admin/users` with `OrgId` makes the
first and the last (with `auto_assign_org` on, its default), the role Editor comes after. A password is told only when
all is done; what a crash leaves behind is an account of ours without the role that nobody has used, and gets a new one.
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
_NEVER_SEEN_YEARS = 5  # Grafana says of who never signed in that they were last seen ten years before they began

Member = Mapping[str, Any]
"""`{"userId": 7, "login": …, "email": …, "name": …, "role": "Editor", "lastSeenAt": …}`"""


def wanted(startup: Startup) -> list[Resource]:
    """The users of a startup's organisation."""
    return [_resource(startup.slug, login, EDITOR) for login in logins(startup)]


def logins(startup: Startup) -> list[str]:
    """The team's addresses in small letters, as Grafana keeps them, or the slug."""
    return list(dict.fromkeys(address.lower() for address in startup.team)) or [startup.slug]


async def actual(grafana: Grafana, startup: Startup | None, slug: str, members: Sequence[Member]) -> list[Resource]:
    """The members that are wanted or ours, and an account of the slug's name that is somebody else's."""
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


def strangers(members: Iterable[Member], user: str) -> list[str]:
    """The members that somebody else put there, the account that provisions apart."""
    others = (one for one in members if not is_ours(one) and user not in (one["login"], one["email"]))
    return [f"the user {one['login']}" for one in others]


def is_admin(members: Sequence[Member], user: str) -> bool:
    """Whether the account that provisions can do so in this organisation."""
    member = find(members, user)
    return member is not None and member["role"] == ADMIN


def find(members: Iterable[Member], login: str) -> Member | None:
    """A member by login or e-mail address, whatever their case."""
    name = login.lower()
    return next((one for one in members if name in (one["login"].lower(), one["email"].lower())), None)


def is_ours(account: Mapping[str, Any]) -> bool:
    """Whether an account was made here."""
    return str(account.get("name", "")).endswith(SUFFIX)


async def save(grafana: Grafana, org_id: int, startup: str, login: str) -> list[Credential]:
    """Make somebody an Editor; a new account's password is in the answer.

    Raises:
        ProvisionError
    """
    api = grafana.within()
    member = find(await grafana.ask(api.organizations.organization_user_list(org_id)), login)
    if member is not None:
        return await _finish(grafana, org_id, startup, login, member)
    account = await _account(grafana, login)
    if account is None:
        return [await _create(grafana, org_id, startup, login)]
    if "@" not in login and not is_ours(account):
        raise ProvisionError(f"Grafana has a user {login!r} already, which provisioning did not make: rename it there")
    user = {"loginOrEmail": login, "role": EDITOR}
    await grafana.ask(api.organizations.organization_user_add(org_id, user), none_for=TAKEN)
    return []


async def remove(grafana: Grafana, org_id: int, login: str) -> None:
    """Take somebody out; an account of ours that is in no organisation any more is deleted."""
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
            f"Grafana at {grafana.url} puts new users into an organisation of their own: set its auto_assign_org to "
            "true (GF_USERS_AUTO_ASSIGN_ORG), which is its default"
        )


async def _finish(grafana: Grafana, org_id: int, startup: str, login: str, member: Member) -> list[Credential]:
    """The role, if it is not there; before it a new password, if nobody can know the one that was made."""
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
    """One that also meets Grafana's strong password policy: small and capital letters, digits and a symbol."""
    while True:
        text = secrets.token_urlsafe(_PASSWORD_BYTES)
        kinds = (str.islower, str.isupper, str.isdecimal, lambda one: not one.isalnum())
        if all(any(map(kind, text)) for kind in kinds):
            return text


def _resource(slug: str, login: str, role: str) -> Resource:
    return Resource("grafana", KIND, f"{slug}/{login}", {"role": EDITOR if role == ADMIN else role}, slug)
