"""Budget of backlogs: what devices send after an outage, with the times at which they took it. In memory, pure.

A reading counts as part of a backlog if its own time is more than a minute ago, and not before that of the last such
reading on its topic. Its message costs the startup's budget of backlogs instead of its quota, and instead of that of
its device, for as long as that budget lasts: `quota.backlog` seconds' worth of the quota a day. So an outage costs the
messages after it nothing, and whoever invents old times gets no more than that.

A message is charged before it is read, and only then is its time known: the charge is given back.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.config import Quota
from gateway.ingest.refilling import elapsed
from gateway.model import Reading
from gateway.timestamps import NS

OLD_NS = 60 * NS
DAY = 86_400.0


class Backlog:
    """Messages and bytes that are left of a startup's budget. It is full at first, and refills evenly over a day."""

    __slots__ = ("_bytes_left", "_left", "_quota", "_refilled_ns")

    def __init__(self, quota: Quota) -> None:
        self._quota = quota
        self._left = quota.backlog_messages
        self._bytes_left = quota.backlog_bytes
        self._refilled_ns = 0

    def use(self, quota: Quota) -> None:
        """Count against this quota from now on; no more than its budget is left."""
        self._quota = quota
        self._left = min(self._left, quota.backlog_messages)
        self._bytes_left = min(self._bytes_left, quota.backlog_bytes)

    def pays(self, messages: int, size: float, now_ns: int) -> bool:
        """Take messages of so many bytes, if they are left."""
        quota = self._quota
        if (seconds := elapsed(self._refilled_ns, now_ns)) is not None:
            part = seconds / DAY
            self._left = min(quota.backlog_messages, self._left + part * quota.backlog_messages)
            self._bytes_left = min(quota.backlog_bytes, self._bytes_left + part * quota.backlog_bytes)
            self._refilled_ns = now_ns
        if self._left < messages or self._bytes_left < size:
            return False
        self._left -= messages
        self._bytes_left -= size
        return True


def in_order(readings: Sequence[Reading], before_ns: int, now_ns: int) -> tuple[int, int]:
    """Return how many readings of a message are a backlog's, and the time of the last old one; `before_ns` is that of
    the messages before."""
    found, old_ns = 0, now_ns - OLD_NS
    for reading in readings:
        if reading.time_ns < old_ns:
            found += before_ns <= reading.time_ns
            before_ns = reading.time_ns
    return found, before_ns
