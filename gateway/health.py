"""The health of the running gateway: for /readyz, the operators' page and `gateway status`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the gateway: `problem` is empty while it works, or says what is wrong and what follows."""

    name: str
    problem: str = ""

    def as_json(self) -> dict[str, object]:
        return {"ok": not self.problem} | ({"problem": self.problem} if self.problem else {})


@dataclass(frozen=True, slots=True)
class Health:
    """All parts. Without `broker`, `disk` and `journal` no messages are taken; `config`, `queues` (those of the broker)
    and the `stores` may fail."""

    parts: tuple[Part, ...]
    stores: Mapping[str, Part]
    config: Part = Part("config")
    queues: Part = Part("queues")

    @property
    def is_ready(self) -> bool:
        """Whether messages are taken. They are also while a store is down: the journal holds them."""
        return not any(part.problem for part in self.parts)

    def summary(self) -> dict[str, object]:
        """Return the parts, with what is wrong in words. Names of servers and files are in it: it is for operators."""
        failing = sum(bool(part.problem) for part in self.stores.values())
        store = Part(
            "store",
            f"{failing} of {len(self.stores)} startups' readings wait in the journal" if failing else "",
        )
        return {
            "ready": self.is_ready,
            "parts": {part.name: part.as_json() for part in (*self.parts, self.queues, self.config, store)},
        }

    def as_json(self) -> dict[str, object]:
        return self.summary() | {"stores": {startup: part.as_json() for startup, part in self.stores.items()}}
