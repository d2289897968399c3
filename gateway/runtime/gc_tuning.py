"""Python itself, set up as a gateway needs it (docs/decisions/0009-the-short-way.md)."""

from __future__ import annotations

import gc
import sys

COLLECT_AFTER = 100_000
"""Objects made and not freed, after which Python looks for cycles among the young."""
SWITCH_AFTER = 0.0005
"""Seconds after which a thread that computes gives way to another."""


def tune_interpreter() -> None:
    """Let Python look for cycles seldom, and not among what stays: a message makes none, but thousands a second would
    have it look all the time. And let no thread that writes into a store keep the event loop waiting for long.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, 20, 20)
    sys.setswitchinterval(SWITCH_AFTER)
