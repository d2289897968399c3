"""Formatting of figures for people."""

from __future__ import annotations


def per_second(value: float, what: str = "") -> str:
    return f"{value:,.0f} {what}/s" if what else f"{value:,.0f}/s"


def percent(ratio: float) -> str:
    return f"{ratio:.0%}" if ratio >= 0.1 else f"{ratio:.1%}"


def times(ratio: float) -> str:
    return f"{ratio:.3g} ×"


def micros(value: float) -> str:
    return f"{value:.2f} µs"


def millis(value: float) -> str:
    return f"{value:,.1f} ms"


def mib(value: float) -> str:
    return f"{value:,.0f} MiB"


def yes(value: bool) -> str:
    return "yes" if value else "NO"
