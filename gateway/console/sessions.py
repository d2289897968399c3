"""Sign-ins, as the page's storage on the server keeps them: the name, never the token."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

from gateway.api.auth import Principal
from gateway.config import Config

MAX_AGE = 30 * 86_400.0
GUESSES = 10
WINDOW = 60.0
MAX_ADDRESSES = 1000

_OPERATOR = "operator"
_STARTUP = "startup:"


def sign_in(storage: MutableMapping[str, Any], principal: Principal, now: float) -> None:
    """Remember a principal for 30 days from `now` (Unix seconds)."""
    storage["who"] = _OPERATOR if principal.startup is None else _STARTUP + principal.startup
    storage["until"] = now + MAX_AGE


def sign_out(storage: MutableMapping[str, Any]) -> None:
    storage.pop("who", None)
    storage.pop("until", None)


def principal(storage: Mapping[str, Any], config: Config, now: float) -> Principal | None:
    """Return who has signed in; None if nobody has, the sign-in has expired, or the startup is no longer configured."""
    name, until = storage.get("who"), storage.get("until")
    if not isinstance(name, str) or not isinstance(until, int | float) or until < now:
        return None
    if name == _OPERATOR:
        return Principal(None)
    slug = name.removeprefix(_STARTUP)
    return Principal(slug) if slug in config.by_slug else None


def forget_old(directory: Path, now: float) -> None:
    """Remove what NiceGUI keeps of sessions that have expired."""
    for path in directory.glob("storage-user-*.json"):
        if path.stat().st_mtime < now - MAX_AGE:
            path.unlink(missing_ok=True)


def home(principal: Principal) -> str:
    """Return the page that a token opens."""
    return "/operator" if principal.startup is None else f"/startups/{principal.startup}"


class Throttle:
    """A limit on guesses: ten wrong tokens per minute from one address."""

    def __init__(self) -> None:
        self._failures: dict[str, list[float]] = {}

    def wait(self, address: str, now: float) -> float:
        """Return the seconds until another token may be tried; 0 if it may be at once."""
        recent = self._recent(address, now)
        return recent[0] + WINDOW - now if len(recent) >= GUESSES else 0.0

    def failed(self, address: str, now: float) -> None:
        """Note a wrong token."""
        recent = [*self._recent(address, now), now][-GUESSES:]
        self._failures.pop(address, None)
        while len(self._failures) >= MAX_ADDRESSES:
            del self._failures[next(iter(self._failures))]
        self._failures[address] = recent

    def _recent(self, address: str, now: float) -> list[float]:
        return [moment for moment in self._failures.get(address, ()) if moment > now - WINDOW]
