"""Verdict of a scenario's own."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """Something that a scenario found beside what all are judged by; `good` is the verdict."""

    what: str
    good: bool
