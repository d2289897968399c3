"""Sign-ins of the web page: who has signed in, and the hash of the token that was used.

A sign-in ends with its token: each use checks it, and so does each reload, which ends open pages too. The browser has a
random key in a cookie, made by each sign-in; the file holds hashes only, and nobody can sign in with what it says.
Somebody without a token leaves nothing behind here.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gateway.api.auth import Principal, Tokens, token_hash
from gateway.api.services import Services
from gateway.logs import get_logger
from gateway.state import private_files

FILE_NAME = "sign-ins.json"
MAX_AGE = 30 * 86_400
MAX_EACH = 16
"""Sign-ins of one startup, or of the operators: a further one ends the oldest."""

Why = Literal["ended", "out"]

log = get_logger(__name__)


@dataclass(slots=True, eq=False)
class SignIn:
    """A sign-in that holds until it is ended. `ending` is called then, once, with the reason."""

    key: str
    principal: Principal
    token: str
    until: float
    ending: set[Callable[[Why], None]] = field(default_factory=set)

    def as_json(self) -> dict[str, Any]:
        return {"key": self.key, "startup": self.principal.startup, "token": self.token, "until": self.until}


class SignIns:
    """All sign-ins, the oldest first. In the file they survive a restart."""

    def __init__(self, services: Services, now: Callable[[], float] = time.time) -> None:
        self._services = services
        self._now = now
        self._path = services.config.state_dir / FILE_NAME
        self._known: dict[str, SignIn] = {}
        self._checked: Tokens | None = None
        self._saving = asyncio.Lock()
        self._changed = False

    def load(self) -> None:
        """Read the file, and leave out what has ended meanwhile. Blocking."""
        for one in _read(self._path):
            self._known[one.key] = one
        self.check()
        if self._changed:
            with suppress(OSError):  # the next sign-in reports it
                private_files.write(self._path, self._as_text())

    async def begin(self, token: str) -> str | None:
        """Sign in with a token; return the key for the cookie, None if the token is unknown."""
        principal = self._services.tokens.principal(token)
        if principal is None:
            return None
        key = secrets.token_urlsafe(32)
        one = SignIn(_hash(key), principal, token_hash(token), self._now() + MAX_AGE)
        self._known[one.key] = one
        for oldest in [other for other in self._known.values() if other.principal == principal][:-MAX_EACH]:
            self._end(oldest, "ended")
        self._changed = True
        await self.save()
        return key

    def find(self, key: str | None) -> SignIn | None:
        """Return the sign-in of a cookie; None if there is none, or it has ended."""
        one = self._known.get(_hash(key)) if key else None
        return one if one is not None and self.holds(one) else None

    def holds(self, one: SignIn) -> bool:
        """Return whether a sign-in still holds, by the tokens of this moment."""
        if self._services.tokens is not self._checked:
            self.check()
        if one.until < self._now():
            self._end(one, "ended")
        return one.key in self._known

    async def end(self, one: SignIn) -> None:
        """Sign out."""
        self._end(one, "out")
        await self.save()

    def check(self) -> None:
        """End the sign-ins whose token, startup or time has ended: after each reload of the configuration."""
        config, tokens, now = self._services.config, self._services.tokens, self._now()
        self._checked = tokens
        for one in list(self._known.values()):
            startup = one.principal.startup
            configured = startup is None or startup in config.by_slug
            if one.until < now or not configured or tokens.owner(one.token) != one.principal:
                self._end(one, "ended")

    async def save(self) -> None:
        """Write the file, if anything has changed; those who wait for each other share one write."""
        async with self._saving:
            if not self._changed:
                return
            self._changed = False
            try:
                await asyncio.to_thread(private_files.write, self._path, self._as_text())
            except OSError as error:
                self._changed = True
                log.warning("sign-ins not kept", file=str(self._path), problem=error.strerror or str(error))

    def _end(self, one: SignIn, why: Why) -> None:
        if self._known.pop(one.key, None) is None:
            return
        self._changed = True
        for callback in list(one.ending):
            callback(why)

    def _as_text(self) -> str:
        return json.dumps([one.as_json() for one in self._known.values()])


def _read(path: Path) -> Iterator[SignIn]:
    """Yield what the file holds; nothing, where it is missing or is not one of ours."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        for one in json.loads(path.read_bytes()):
            token = bytes.fromhex(one["token"]).hex()
            yield SignIn(str(one["key"]), Principal(one["startup"]), token, float(one["until"]))


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()


def home(principal: Principal) -> str:
    """Return the page that a token opens."""
    return "/operator" if principal.startup is None else f"/startups/{principal.startup}"
