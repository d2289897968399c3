"""Samples of messages that are rejected unread: one a second is kept for each device. Pure; the caller keeps the clock.

The first is kept at once, so that the device learns of it. Those of the following second are counted, and the last of
them is kept and stands for all. In the ledger each message is counted when it is rejected, a sample never.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gateway.ingest.topic_routes import Route
from gateway.model import Publish, Reason, Rejection, cut_of
from gateway.timestamps import NS

Explain = Callable[[int], Reason]

MAX_DEVICES = 50
MAX_BYTES = 1 << 20
"""Devices of a startup that have samples of their own at a time, and the bytes of the messages kept for these. The
samples of all others are one: names can be invented, and messages may be large."""


@dataclass(slots=True)
class _Window:
    """One second of a device. `last` is the newest message since its last sample, which has none of its own."""

    ends_ns: int
    route: Route
    explain: Explain
    messages: int = 0
    last: Publish | None = None

    @property
    def size(self) -> int:
        """Bytes of what is kept, about."""
        return self.route.topic_bytes + (len(self.last.payload) if self.last else 0)


class _Windows(dict[str, _Window]):
    """Windows of one startup by device. `size` is that of all but the shared one, whose device is ""."""

    size = 0

    def own(self, device: str, size: int) -> str:
        """Return the device if a message of so many bytes may be kept in a window of its own, else ""."""
        window = self.get(device)
        if window is None and len(self) >= MAX_DEVICES:
            return ""
        return device if self.size - (window.size if window else 0) + size <= MAX_BYTES else ""


class Samples:
    """`add` messages over quota, and take the samples that are `due`."""

    def __init__(self) -> None:
        self._windows: dict[str, _Windows] = {}

    @property
    def is_pending(self) -> bool:
        """Whether a second is under way that may still end with a sample."""
        return bool(self._windows)

    def add(self, route: Route, message: Publish, explain: Explain, now_ns: int) -> Rejection | None:
        """Count a message; return a sample if it is the first. `explain` gives the reason for a number of messages."""
        windows = self._windows.get(route.startup) or self._windows.setdefault(route.startup, _Windows())
        device = windows.own(route.device, route.topic_bytes + len(message.payload))
        window = windows.get(device)
        if window is None:
            windows[device] = window = _Window(now_ns + NS, route, explain)
            if device:
                windows.size += window.size
            return _sample(route, message, explain(1), 1, now_ns)
        before = window.size
        window.messages += 1
        window.route, window.explain, window.last = route, explain, message
        if device:
            windows.size += window.size - before
        return None

    def due(self, now_ns: int, *, at_end: bool = False) -> list[Rejection]:
        """Return the samples of the seconds that are over; at the end of a run, of all."""
        found: list[Rejection] = []
        for startup, windows in list(self._windows.items()):
            for device, window in list(windows.items()):
                is_under_way = now_ns < window.ends_ns <= now_ns + NS  # else it is over, or the clock was set back
                if is_under_way and not at_end:
                    continue
                del windows[device]
                if window.last is not None:
                    reason = window.explain(window.messages)
                    found.append(_sample(window.route, window.last, reason, window.messages, now_ns))
                    windows[device] = _Window(now_ns + NS, window.route, window.explain)
            windows.size = sum(window.size for device, window in windows.items() if device)
            if not windows:
                del self._windows[startup]
        return found


def _sample(route: Route, message: Publish, reason: Reason, messages: int, now_ns: int) -> Rejection:
    device, topic, payload = route.device, message.topic, message.payload
    cut = cut_of(message)
    return Rejection(route.startup, device, topic, payload, now_ns, (reason,), cut=cut, stands_for=messages)
