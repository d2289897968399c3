"""Settings of Python itself that a gateway needs (docs/decisions/0011-what-made-it-fast.md)."""

from __future__ import annotations

import gc
import sys

COLLECT_AFTER = 100_000
"""Objects made and not freed, after which Python looks for cycles among the youngest."""
SWITCH_AFTER = 0.0005
"""Seconds after which a computing thread gives way to another."""


def tune_interpreter() -> None:
    """Let Python look for cycles seldom, and not among objects that stay: a message makes none, but thousands a second
    would start the search all the time. Let no thread that writes into a store keep the event loop waiting for long.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, 20, 20)
    sys.setswitchinterval(SWITCH_AFTER)
