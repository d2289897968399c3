"""How long to wait before trying again. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterator

LASTING = 30.0
"""Seconds that a connection has to last before a lost one is taken up again without a pause that has grown."""


def pauses(first: float = 0.2, longest: float = 30.0) -> Iterator[float]:
    """Seconds to wait between tries: doubling up to `longest`, each with full jitter, so that a thousand clients of
    one broker do not come back in the same instant."""
    ceiling = first
    while True:
        yield random.uniform(ceiling / 2, ceiling)  # noqa: S311  # spreads load, guards nothing
        ceiling = min(longest, ceiling * 2)
