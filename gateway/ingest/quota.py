"""Quota of one startup: messages and bytes a second, devices, series. In memory, pure; the caller keeps the clock."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from gateway.config import Quota
from gateway.ingest.backlog import Backlog
from gateway.ingest.refilling import elapsed
from gateway.model import Code, Reason
from gateway.topics import device_is_legal

PATIENCE = 10.0
"""Seconds for which messages over quota wait at the broker. If the startup is still over its quota then, they are
rejected, so that its devices learn of it and its queue does not overflow silently."""
SHORTEST_WAIT = 0.01
SHOWN = 1000
TENS = 10
"""Seconds from which a fraction of one says nothing."""
SERIES_BYTES = 256
"""Bytes of the names of all series, for each series of the quota: they are kept in memory and on disk."""
SERIES_BYTES_LEAST = 64 << 10


class DeviceMeter:
    """Bucket of messages of one device, so that it cannot use up the quota of its startup alone."""

    __slots__ = ("_burst", "_left", "_rate", "_refilled_ns")

    def __init__(self, quota: Quota, rate: float) -> None:
        self._rate = rate
        self._burst = max(1.0, rate * quota.burst / quota.messages)
        self._left = self._burst
        self._refilled_ns = 0

    def admits(self, now_ns: int) -> bool:
        """Return whether a message is left in the bucket."""
        if (seconds := elapsed(self._refilled_ns, now_ns)) is not None:
            self._left = min(self._burst, self._left + seconds * self._rate)
            self._refilled_ns = now_ns
        return self._left >= 1

    def charge(self) -> None:
        """Take a message from the bucket."""
        self._left -= 1

    def give_back(self) -> None:
        """Put a message back into the bucket: another budget pays for it."""
        self._left += 1

    def over(self, messages: int) -> Reason:
        """Return why this number of messages was rejected."""
        limit = f"at most {self._rate:g} messages a second of one device"
        return _over_quota(limit, messages, Use("quota.per_device", self._left, self._burst, self._rate))


class Blocked:
    """Limit of a device that an operator has blocked: it admits nothing, and costs its startup nothing."""

    def admits(self, _now_ns: int) -> bool:
        """Return False."""
        return False

    def charge(self) -> None:
        """Take nothing."""

    def give_back(self) -> None:
        """Put nothing back."""

    def over(self, messages: int) -> Reason:
        """Return why this number of messages was rejected."""
        return Reason(
            Code.BLOCKED,
            "topic",
            "a device that is not blocked",
            "a message" if messages == 1 else f"{messages:,} messages",
            "an operator has blocked this device: stop sending, and ask the operators of the test bed",
        )


DeviceLimit = DeviceMeter | Blocked
BLOCKED = Blocked()


class QuotaMeter:
    """Counts one startup's use against its quota. It decides, the caller asks.

    Messages and bytes are token buckets: a burst at once, refilled at a steady rate, so that a device that comes back
    with a backlog is not punished for it. An array costs as much as that many messages of one record, even if the
    bucket is overdrawn by it.
    """

    __slots__ = (
        "_device_meters",
        "_new_series",
        "_over_since_ns",
        "_refilled_ns",
        "_series_bytes",
        "backlog",
        "bytes_left",
        "devices",
        "keys",
        "left",
        "quota",
        "series",
    )

    def __init__(self, quota: Quota, devices: Iterable[str] = (), series: Iterable[str] = ()) -> None:
        self.quota = quota
        self.devices = set(devices)
        self.series = set(series)
        self.keys: dict[tuple[Sequence[str], ...], str] = {}
        """Admitted series keys by what they are made of: the series key of the topic, and the tags of the payload."""
        self._series_bytes = sum(len(key.encode()) for key in self.series)
        self.left = float(quota.burst)
        """Messages left in the bucket. The pipeline subtracts each message, and each further record of an array."""
        self.bytes_left = float(quota.burst_bytes)
        """The same in bytes of topic and payload. A message may overdraw it."""
        self.backlog = Backlog(quota)
        self._new_series: list[str] = []
        self._refilled_ns = 0
        self._over_since_ns: int | None = None
        self._device_meters: dict[str, DeviceMeter] = {}

    def use(self, quota: Quota) -> None:
        """Count against this quota from now on. What is used stays used."""
        if quota != self.quota:
            self.quota = quota
            self.backlog.use(quota)
            self._device_meters.clear()

    def of_device(self, device: str) -> DeviceMeter | None:
        """Return the meter of a device; None where devices have no quota of their own.

        Devices beyond `quota.devices`, and those with invalid names, share one: their names may be invented.
        """
        rate = self.quota.per_device
        if rate is None:
            return None
        meters = self._device_meters
        is_kept = device in meters or (len(meters) < self.quota.devices and device_is_legal(device))
        known = device if is_kept else ""
        return meters.get(known) or meters.setdefault(known, DeviceMeter(self.quota, rate))

    def refill(self, now_ns: int) -> None:
        """Add what the time since the last refill allows; once per batch is enough."""
        if (seconds := elapsed(self._refilled_ns, now_ns)) is not None:
            quota = self.quota
            self.left = min(quota.burst, self.left + seconds * quota.messages)
            self.bytes_left = min(quota.burst_bytes, self.bytes_left + seconds * quota.bytes_a_second)
            self._refilled_ns = now_ns

    @property
    def is_over(self) -> bool:
        """Whether the next message is over quota."""
        return self.left < 1 or self.bytes_left <= 0

    def wait(self, now_ns: int) -> float | None:
        """Return for how many seconds messages should wait at the broker because they are over quota: 0 if they are
        not, None if they have waited for too long and are to be rejected."""
        self.refill(now_ns)
        quota = self.quota
        if not self.is_over:
            if self.left >= quota.burst / 2 and self.bytes_left >= quota.burst_bytes / 2:
                self._over_since_ns = None
            return 0.0
        if self._over_since_ns is None or self._over_since_ns > now_ns:
            self._over_since_ns = now_ns
        needed = max((1 - self.left) / quota.messages, -self.bytes_left / quota.bytes_a_second, SHORTEST_WAIT)
        return needed if (now_ns - self._over_since_ns) / 1e9 + needed < PATIENCE else None

    def over(self, messages: int) -> Reason:
        """Return why this number of messages was rejected."""
        quota = self.quota
        if self.left >= 1:
            limit = f"at most {quota.bytes_a_second:,.0f} bytes a second (and {quota.burst_bytes:,} at once)"
            use = Use("quota.bytes", self.bytes_left, quota.burst_bytes, quota.bytes_a_second)
            return _over_quota(limit, messages, use)
        limit = f"at most {quota.messages:g} messages a second (and {quota.burst} at once)"
        return _over_quota(limit, messages, Use("quota.messages", self.left, quota.burst, quota.messages))

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
                f"quota.devices: {len(self.devices):,} used, and none becomes free by itself; use a known device name,"
                " or ask the operator for a larger quota",
            )
        size = self._series_bytes + len(key.encode())
        most = max(SERIES_BYTES_LEAST, self.quota.series * SERIES_BYTES)
        if len(self.series) >= self.quota.series or size > most:
            return Reason(
                Code.OVER_QUOTA,
                "payload",
                f"at most {self.quota.series} series (distinct sets of tags), with names of at most {most:,} bytes",
                f"the new series {_beginning(key)}",
                f"quota.series: {len(self.series):,} used, with {self._series_bytes:,} bytes, and none becomes free by"
                " itself; a tag must not hold a value that changes with every message",
            )
        self.devices.add(device)
        self.series.add(key)
        self._series_bytes = size
        self._new_series.append(key)
        return None

    def take_new_series(self) -> list[str]:
        """Return the series admitted since the last call, to be remembered."""
        new, self._new_series = self._new_series, []
        return new

    def put_back_series(self, series: Iterable[str]) -> None:
        """Return these once more with the next new series: they could not be remembered."""
        self._new_series += series


def _beginning(key: str) -> str:
    return key if len(key) <= SHOWN else f"{key[:SHOWN]}…"


class Use(NamedTuple):
    """Use of a bucket: its setting, what is left of how much, and what a second adds."""

    setting: str
    left: float
    most: float
    rate: float

    def __str__(self) -> str:
        used, first = self.most - self.left, max(0.0, 1 - self.left)
        return (
            f"{self.setting}: {used:,.0f} of {self.most:,.0f} used; free again in {_seconds(first / self.rate)}, all of"
            f" it in {_seconds(used / self.rate)}"
        )


def _seconds(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds < TENS else f"{seconds:,.0f} s"


def _over_quota(limit: str, messages: int, use: Use) -> Reason:
    return Reason(
        Code.OVER_QUOTA,
        "topic",
        limit,
        "1 more message" if messages == 1 else f"{messages:,} more messages",
        f"{use}; one message a second is kept for each device; send more slowly, or ask the operator for a larger"
        " quota",
    )
