"""Configuration of a bed: who is there, their quotas and rules, the settings of the gateway."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ruamel.yaml import YAML

VICTIM = "acme"
ATTACKER = "mallory"
DEVICES = tuple(f"d-{number}" for number in range(1, 9))
"""Devices of the attacker, each with an account of its own; the victim has the first."""


@dataclass(frozen=True, slots=True)
class Layout:
    """`others` are further startups that are there and do nothing. `settings` are added to gateway.yaml, `quota` is the
    attacker's, where it differs from the defaults."""

    store: Literal["sqlite", "influxdb"] = "sqlite"
    others: int = 1
    settings: Mapping[str, Any] = field(default_factory=dict)
    quota: Mapping[str, Any] = field(default_factory=dict)

    @property
    def slugs(self) -> list[str]:
        return [VICTIM, ATTACKER, *(f"other-{number}" for number in range(self.others))]

    def write(self, directory: Path, settings: Mapping[str, Any], broker: str) -> None:
        """Write the configuration directory of a gateway that connects to `broker`, and of its provisioning."""
        (directory / "startups").mkdir(parents=True)
        yaml = YAML()
        yaml.dump(_merged(settings, self.settings), directory / "gateway.yaml")
        yaml.dump({"mosquitto": {"url": broker}}, directory / "provision.yaml")
        for slug in self.slugs:
            yaml.dump(self._startup(slug), directory / "startups" / f"{slug}.yaml")

    def _startup(self, slug: str) -> dict[str, Any]:
        rule = {
            "topic": f"testbed/{slug}/{{device}}/climate",
            "fields": {
                "temperature": {"from": "/t", "type": "float", "min": -40, "max": 125},
                "seq": {"type": "int", "required": False},
            },
            "tags": {"batch": "/b"},
            "unknown": "drop",
        }
        if slug == VICTIM:  # its time is its own, so that a message that is delivered twice is one reading
            rule |= {"time": {"from": "/ts", "unit": "ms"}, "unknown": "reject"}
        return {
            "name": slug.title(),
            "token_sha256": hashlib.sha256(token(slug).encode()).hexdigest(),
            "devices": list(DEVICES if slug == ATTACKER else DEVICES[:1]),
            "topics": {"climate": rule},
        } | ({"quota": dict(self.quota)} if slug == ATTACKER and self.quota else {})


def token(slug: str) -> str:
    return f"token-of-{slug}"


def _merged(these: Mapping[str, Any], those: Mapping[str, Any]) -> dict[str, Any]:
    """Merge the settings of two sources, section by section."""
    merged = dict(these)
    for name, value in those.items():
        merged[name] = {**merged.get(name, {}), **value} if isinstance(value, Mapping) else value
    return merged


PLAIN = Layout()
