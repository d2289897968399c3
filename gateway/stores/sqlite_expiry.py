"""Deletes readings older than their retention from the embedded store, at a pace.

A clock that is a year ahead would make all readings too old. So time that passes decides, not the clock alone: a call
deletes at most `SPEED` times what has passed since the call before by the monotonic clock, and the first one nothing.
In order, that is all that became too old; with a wrong clock, or a shorter retention, it goes slowly, and is logged.
Gaps between readings cost no time.
"""

from __future__ import annotations

import time

from gateway.logs import get_logger
from gateway.stores.sqlite_writer import Writer
from gateway.timestamps import NS, to_rfc3339

SPEED = 24
BEHIND_NS = 86_400 * NS
"""Readings that are too old by more than this are reported."""
ADVICE = (
    "is the machine's clock right? If not, correct it soon. If it is, the rest goes too, a day of readings every hour"
)

log = get_logger(__name__)


class Expiry:
    """Expiry of one startup's file. Blocking."""

    def __init__(self, startup: str) -> None:
        self._startup = startup
        self._called: float | None = None

    def run(self, writer: Writer, before_ns: int) -> None:
        """Delete the oldest readings, as far as the pace allows and none that is newer than `before_ns`."""
        now = time.monotonic()
        passed = 0.0 if self._called is None else now - self._called
        self._called = now
        oldest_ns = writer.oldest()
        if oldest_ns is None or oldest_ns >= before_ns:
            return
        if passed:
            until_ns = min(before_ns, oldest_ns + int(SPEED * passed * NS))
            deleted = writer.expire(until_ns)
            log.info("old readings deleted", startup=self._startup, readings=deleted, older_than=to_rfc3339(until_ns))
        rest_ns = writer.oldest()
        if rest_ns is not None and rest_ns < before_ns - BEHIND_NS:
            log.warning(
                "readings are older than their retention",
                startup=self._startup,
                oldest=to_rfc3339(rest_ns),
                retention_began=to_rfc3339(before_ns),
                next=ADVICE,
            )
