"""Accounts that provisioning made in Grafana, by the id that Grafana gave each, and the time when it did.

Whoever has an account at Grafana chooses its login, address and display name, so that none of these shows who made it.
The time distinguishes an account from one with the same id in a Grafana that was set up anew.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from gateway.provision.grafana_api import NOT_FOUND, Grafana
from gateway.provision.secret_files import SecretFiles

FILE = "grafana-accounts"


class Made(NamedTuple):
    """An account that was made here, as Grafana identifies it."""

    id: int
    created: str


class GrafanaAccounts:
    """List of accounts, by the login that each was made for. It is kept beside the secrets."""

    def __init__(self, files: SecretFiles) -> None:
        self._files = files

    async def made_for(self, grafana: Grafana, login: str) -> Mapping[str, Any] | None:
        """Return the account that was made for a login, as it is now; None if there is none, or it is gone."""
        known = (await self._read()).get(login)
        if known is None:
            return None
        account = await grafana.ask(grafana.within().users.get_user(known.id), none_for=[NOT_FOUND])
        return account if account is not None and _made(account) == known else None

    async def logins(self, grafana: Grafana, among: Collection[int]) -> dict[int, str]:
        """Return the login that each account was made for, by id, of those with these ids."""
        found: dict[int, str] = {}
        for login, made in (await self._read()).items():
            if made.id in among and await self.made_for(grafana, login) is not None:
                found[made.id] = login
        return found

    async def add(self, grafana: Grafana, login: str, ident: int) -> None:
        """Note an account that was just made."""
        made = _made(await grafana.ask(grafana.within().users.get_user(ident)))
        await self._change(lambda known: known | {login: made})

    async def forget(self, login: str) -> None:
        """Forget an account that was deleted."""
        await self._change(lambda known: {name: made for name, made in known.items() if name != login})

    async def _read(self) -> dict[str, Made]:
        return await asyncio.to_thread(self._read_file)

    async def _change(self, change: Callable[[dict[str, Made]], dict[str, Made]]) -> None:
        text = json.dumps(change(await self._read()), sort_keys=True)
        await asyncio.to_thread(self._files.write, FILE, text)

    def _read_file(self) -> dict[str, Made]:
        with suppress(ValueError, TypeError, AttributeError):
            return {str(login): Made(*made) for login, made in json.loads(self._files.read(FILE) or "{}").items()}
        return {}


def _made(account: Mapping[str, Any]) -> Made:
    return Made(account["id"], str(account.get("createdAt", "")))
