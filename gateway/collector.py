"""Python's own search for cycles, as a gateway needs it."""

from __future__ import annotations

import gc

COLLECT_AFTER = 100_000
"""Objects made and not freed, after which Python looks for cycles among the young."""


def calm_collector() -> None:
    """Let Python look for cycles seldom, and not among what stays: a message makes none, but thousands a second would
    have it look all the time (docs/decisions/0009-the-short-way.md)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, 20, 20)
