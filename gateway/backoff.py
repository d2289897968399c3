"""The pauses before another try. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterator

LASTING = 30.0
"""Seconds that a connection or process must last; when it ends after that, the pauses start small again."""


def pauses(first: float = 0.2, longest: float = 30.0) -> Iterator[float]:
    """Yield the seconds to wait between tries: doubling up to `longest`, each with jitter, so that a thousand clients
    of one broker do not return in the same instant."""
    ceiling = first
    while True:
        yield random.uniform(ceiling / 2, ceiling)  # noqa: S311  # spreads load, guards nothing
        ceiling = min(longest, ceiling * 2)
