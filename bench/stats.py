"""Medians, quantiles and rates. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import median

NS = 1_000_000_000
QUANTILES = {"p50": 0.5, "p99": 0.99, "p999": 0.999}

__all__ = ["NS", "QUANTILES", "latency_ms", "median", "quantile", "rate", "ratio"]


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` of all do not exceed; nearest rank, no interpolation."""
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def latency_ms(latencies_ns: Iterable[float]) -> dict[str, float]:
    """Return p50, p99, p99.9 and the maximum, in ms, and how many there are."""
    ordered = sorted(latencies_ns)
    figures = {f"{name}_ms": round(quantile(ordered, share) / 1e6, 3) for name, share in QUANTILES.items()}
    return figures | {"max_ms": round(quantile(ordered, 1.0) / 1e6, 3), "samples": len(ordered)}


def rate(count: float, start_ns: int, end_ns: int) -> float:
    """Return a rate per second."""
    return count * NS / max(1, end_ns - start_ns)


def ratio(these: Sequence[float], those: Sequence[float]) -> float:
    """Return the median of the ratios of values measured side by side: the first with the first, and so on."""
    return median(a / b if b else math.nan for a, b in zip(these, those, strict=True))
