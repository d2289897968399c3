"""Who has signed in, as the page's storage on the server keeps it: the name, never the token."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

from gateway.api.auth import Principal
from gateway.config import Config

LASTS = 30 * 86_400.0
GUESSES = 10
WINDOW = 60.0
MAX_ADDRESSES = 1000

_OPERATOR = "operator"
_STARTUP = "startup:"


def sign_in(storage: MutableMapping[str, Any], principal: Principal, now: float) -> None:
    """Remember who it is, for 30 days from `now` (Unix seconds)."""
    storage["who"] = _OPERATOR if principal.startup is None else _STARTUP + principal.startup
    storage["until"] = now + LASTS


def sign_out(storage: MutableMapping[str, Any]) -> None:
    storage.pop("who", None)
    storage.pop("until", None)


def who(storage: Mapping[str, Any], config: Config, now: float) -> Principal | None:
    """Who has signed in; None where nobody has, the time is over, or the startup is gone."""
    name, until = storage.get("who"), storage.get("until")
    if not isinstance(name, str) or not isinstance(until, int | float) or until < now:
        return None
    if name == _OPERATOR:
        return Principal(None)
    slug = name.removeprefix(_STARTUP)
    return Principal(slug) if slug in config.by_slug else None


def forget_old(directory: Path, now: float) -> None:
    """Remove what NiceGUI keeps of sessions that are over."""
    for path in directory.glob("storage-user-*.json"):
        if path.stat().st_mtime < now - LASTS:
            path.unlink(missing_ok=True)


def home(principal: Principal) -> str:
    """The page that a token opens."""
    return "/operator" if principal.startup is None else f"/startups/{principal.startup}"


class Throttle:
    """Slows down whoever guesses tokens: ten wrong ones a minute from one address."""

    def __init__(self) -> None:
        self._failures: dict[str, list[float]] = {}

    def wait(self, address: str, now: float) -> float:
        """Seconds until another guess is heard; 0 for at once."""
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
