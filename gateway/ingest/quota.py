"""Quota of one startup: messages per second, devices, series. In memory, pure; the caller keeps the clock."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.config import Quota
from gateway.model import Code, Reason


class QuotaMeter:
    """Counts one startup's use against its quota. It decides, the pipeline asks.

    The messages are a token bucket: `burst` at once, refilled at `messages` a second, so that a device that
    comes back with a backlog is not punished for it.
    """

    __slots__ = ("_new_series", "_refilled_ns", "devices", "left", "quota", "series")

    def __init__(self, quota: Quota, devices: Iterable[str] = (), series: Iterable[str] = ()) -> None:
        self.quota = quota
        self.devices = set(devices)
        self.series = set(series)
        self._new_series: list[str] = []
        self.left = float(quota.burst)
        """Messages left in the bucket. Read it, but change it only by the methods."""
        self._refilled_ns = 0

    def refill(self, now_ns: int) -> None:
        """Add the messages of the time since the last refill; once per batch is enough."""
        elapsed = max(0, now_ns - self._refilled_ns) / 1e9  # nothing where the clock was set back
        self.left = min(self.quota.burst, self.left + elapsed * self.quota.messages)
        self._refilled_ns = now_ns

    def admit_known(self, key: str) -> bool:
        """Take one message of a series that is already admitted.

        Return False, with nothing taken, if the bucket is empty or the series new: `take` and `admit` then decide.
        """
        if self.left < 1 or key not in self.series:
            return False
        self.left -= 1
        return True

    def take(self) -> Reason | None:
        """Take one message from the bucket, or return why not."""
        if self.left >= 1:
            self.left -= 1
            return None
        return Reason(
            Code.OVER_QUOTA,
            "topic",
            f"at most {self.quota.messages:g} messages a second (and {self.quota.burst} at once)",
            "more",
            "the message is kept as a dead letter; send slower, or ask the operator for a larger quota",
        )

    def charge(self, messages: int) -> None:
        """Take more from the bucket, below zero if need be.

        An array costs as much as that many messages of one record, so that no startup can keep the others waiting by
        sending arrays.
        """
        self.left -= messages

    def admit(self, device: str, key: str) -> Reason | None:
        """Count a series key and its device when they are first seen, or return why not."""
        if key in self.series:
            return None
        if device not in self.devices and len(self.devices) >= self.quota.devices:
            return Reason(
                Code.OVER_QUOTA,
                "topic",
                f"at most {self.quota.devices} devices",
                f"the new device {device!r}",
                "use a known device name, or ask for a larger quota",
            )
        if len(self.series) >= self.quota.series:
            return Reason(
                Code.OVER_QUOTA,
                "payload",
                f"at most {self.quota.series} series (distinct sets of tags)",
                f"the new series {key}",
                "a tag must not hold a value that changes with every message",
            )
        self.devices.add(device)
        self.series.add(key)
        self._new_series.append(key)
        return None

    def take_new_series(self) -> list[str]:
        """Return the series admitted since the last call, to be remembered."""
        new, self._new_series = self._new_series, []
        return new
