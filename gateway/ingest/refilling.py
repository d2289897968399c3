"""Time that refills a bucket of a quota. Pure."""

from __future__ import annotations

from gateway.timestamps import NS

SET_BACK = 60.0
"""Seconds by which a time must be behind the last refill to be that of a clock that was set back."""


def elapsed(refilled_ns: int, now_ns: int) -> float | None:
    """Return the seconds since a bucket was refilled; None where there is nothing to add.

    A batch may have arrived before the last refill, since its messages had to wait: it adds nothing, and that time must
    not count again. A time far before that is a clock that was set back, and is followed.
    """
    if 0 <= refilled_ns - now_ns < SET_BACK * NS:
        return None
    return max(0, now_ns - refilled_ns) / NS
