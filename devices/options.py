"""Values of the command line with notations of their own: durations and shares."""

from __future__ import annotations

import re
from enum import StrEnum

import typer

from devices.fleet import Share

SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


class Protocol(StrEnum):
    """Versions of MQTT."""

    V311 = "3.1.1"
    V5 = "5"


def duration(text: str) -> float:
    """Return the seconds of 500ms, 20s, 5m, 2h or 1d; 0 needs no unit."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", text)
    if found:
        return float(found[1]) * SECONDS[found[2]]
    if text == "0":
        return 0.0
    raise typer.BadParameter(f"{text!r} is not a duration such as 20s, 5m or 2h")


def share(text: str) -> Share:
    """Return a share: 0.25 and 25% are fractions of a startup's devices, 2 is a count."""
    if re.fullmatch(r"\d+", text):
        return Share(count=int(text))
    found = re.fullmatch(r"(\d*\.?\d+)(%?)", text)
    fraction = float(found[1]) / (100 if found[2] else 1) if found else -1.0
    if 0 <= fraction <= 1:
        return Share(fraction=fraction)
    raise typer.BadParameter(f"{text!r} is neither a fraction (0.25, 25%) nor a count (2)")
