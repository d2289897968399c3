"""Time of a record, in the unit of its rule and within the rule's bounds around now. Pure."""

from __future__ import annotations

import sys
from typing import Any

from gateway import timestamps
from gateway.config import TimeRule


class Clock:
    """Reads the time of a record, within the bounds that its rule sets around now."""

    def __init__(self, rule: TimeRule) -> None:
        self.rule = rule
        self._max_age_ns = int(rule.max_age * timestamps.NS)
        self._max_future_ns = int(rule.max_future * timestamps.NS)

    def read(self, value: Any, now_ns: int) -> int | None:
        """Return ns since 1970, or None if `value` is not a time or out of bounds."""
        time_ns = self._convert(value)
        if time_ns is not None and -self._max_age_ns <= time_ns - now_ns <= self._max_future_ns:
            return time_ns
        return None

    def takes(self, value: object) -> bool:
        """Return whether the schema would let this value through to `read`."""
        if self.rule.unit == "rfc3339":
            return isinstance(value, str)
        if not isinstance(value, int | float) or isinstance(value, bool):
            return False
        return abs(value) <= sys.float_info.max if self.rule.unit in ("s", "ms") else isinstance(value, int)

    def hint(self, value: Any, now_ns: int) -> str:
        """Explain what a device that sent this time has probably done."""
        if isinstance(value, str):
            is_time = timestamps.from_rfc3339(value) is not None
            return "is the device's clock set?" if is_time else "RFC 3339 has a date, a time and an offset"
        unit = timestamps.looks_like(value, now_ns - self._max_age_ns, now_ns + self._max_future_ns)
        if unit and unit != self.rule.unit:
            return f"it looks like {timestamps.UNITS[unit]}"
        time_ns = self._convert(value)
        meant = f"that is {timestamps.to_rfc3339(time_ns)}; " if time_ns is not None else ""
        return f"{meant}is the device's clock set?"

    def describe(self) -> str:
        """Describe the expected time, for people."""
        form = "an RFC 3339 time such as 2026-11-23T08:15:30Z"
        if self.rule.unit != "rfc3339":
            form = f"{timestamps.UNITS[self.rule.unit]} since 1970"
        return f"{form}, at most {_span(self.rule.max_age)} old and {_span(self.rule.max_future)} ahead"

    def _convert(self, value: Any) -> int | None:
        if self.rule.unit == "rfc3339":
            return timestamps.from_rfc3339(value)
        return timestamps.from_number(value, self.rule.unit)


def _span(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds:g}s"
