"""What the running gateway knows of itself: for /readyz, the operators' page and `gateway status`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the gateway: `problem` is empty while it works, else it says what is wrong and what follows."""

    name: str
    problem: str = ""

    def as_json(self) -> dict[str, object]:
        return {"ok": not self.problem} | ({"problem": self.problem} if self.problem else {})


@dataclass(frozen=True, slots=True)
class Health:
    """All parts. Without `broker`, `disk` and `journal` nothing is taken in; `config` and the `stores` may fail."""

    parts: tuple[Part, ...]
    stores: Mapping[str, Part]
    config: Part = Part("config")

    @property
    def is_ready(self) -> bool:
        """Whether messages are taken in. A store that is down is no reason not to: the journal takes them."""
        return not any(part.problem for part in self.parts)

    def summary(self) -> dict[str, object]:
        """What anybody may see: no startup is named, but for the file of a configuration that is wrong."""
        failing = sum(bool(part.problem) for part in self.stores.values())
        store = Part(
            "store",
            f"{failing} of {len(self.stores)} startups' readings wait in the journal" if failing else "",
        )
        return {
            "ready": self.is_ready,
            "parts": {part.name: part.as_json() for part in (*self.parts, self.config, store)},
        }

    def as_json(self) -> dict[str, object]:
        return self.summary() | {"stores": {startup: part.as_json() for startup, part in self.stores.items()}}
