"""Health of the running gateway: for /readyz, the operators' page and `gateway status`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

SHOWN = 3
"""Startups whose problem is shown with the part that sums them up."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the gateway: `problem` is empty while it works, or says what is wrong and what follows."""

    name: str
    problem: str = ""

    def as_json(self) -> dict[str, object]:
        return {"ok": not self.problem} | ({"problem": self.problem} if self.problem else {})


@dataclass(frozen=True, slots=True)
class Health:
    """All parts. Those of `parts` are needed by everybody. The `sessions` and `stores` are those of single startups:
    one that fails is that startup's alone. `config` and `queues` (those of the broker) may fail."""

    parts: tuple[Part, ...]
    stores: Mapping[str, Part]
    config: Part = Part("config")
    queues: Part = Part("queues")
    sessions: Mapping[str, Part] = field(default_factory=dict)

    @property
    def needed(self) -> tuple[Part, ...]:
        """Parts without which no messages are taken: `parts`, where the broker fails if all sessions do."""
        if not self.sessions or not all(part.problem for part in self.sessions.values()):
            return self.parts
        return tuple(
            Part("broker", part.problem or "no startup's session works: see sessions")  # startups read this, too
            if part.name == "broker"
            else part
            for part in self.parts
        )

    @property
    def is_ready(self) -> bool:
        """Whether messages are taken. They are also while a store is down: the journal holds them."""
        return not any(part.problem for part in self.needed)

    def summary(self) -> dict[str, object]:
        """Return the parts, with what is wrong in words. Names of servers and files are in it: it is for operators."""
        sessions = Part("sessions", _summed_up(self.sessions, "startups' messages wait at the broker"))
        store = Part("store", _summed_up(self.stores, "startups' readings wait in the journal"))
        parts = (*self.needed, sessions, self.queues, self.config, store)
        return {"ready": self.is_ready, "parts": {part.name: part.as_json() for part in parts}}

    def as_json(self) -> dict[str, object]:
        by_startup = {"sessions": self.sessions, "stores": self.stores}
        return self.summary() | {
            name: {startup: part.as_json() for startup, part in parts.items()} for name, parts in by_startup.items()
        }


def failing(parts: Mapping[str, Part]) -> str:
    """Return the problems of startups, the first few of them, each with its slug."""
    problems = [f"{slug}: {part.problem}" for slug, part in parts.items() if part.problem]
    more = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
    return "; ".join([*problems[:SHOWN], *more])


def _summed_up(parts: Mapping[str, Part], what: str) -> str:
    count = sum(bool(part.problem) for part in parts.values())
    return f"{count} of {len(parts)} {what} ({failing(parts)})" if count else ""
