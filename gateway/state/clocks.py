"""Clock of a device, judged by the times of its readings. Pure.

An offset is the device's time minus the gateway's at arrival. Readings that wait, on the device or on the way, only
make it smaller, so the largest offset of a while is that of the clock itself: a backlog is no fault of a clock.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import combinations, pairwise
from statistics import median
from typing import NamedTuple

from gateway.state.clock_faults import DAY, HOUR, MINUTE, ClockFault, Found, ahead, gross, leap, span, step, zone
from gateway.timestamps import NS

WINDOWS = 32
WIDEST = HOUR
"""Windows begin with a second and double, so that they span the device's life up to 32 hours."""
JUDGE_EVERY = 4
RECENT = 4
AHEAD = 5 * NS
"""More than any clock that is synchronised is ahead, and no wait can explain it."""
BEHIND = 2 * MINUTE
"""A delay may explain less."""
STUCK_AFTER, STUCK_BATCHES = 5 * MINUTE, 10
DRIFT_PPM, DRIFT_LEAST, FASTEST_PPM = 50, NS // 2, 50_000
LATER_PPM = 10_000
"""A device that falls behind faster than that sends ever later: its clock need not be slow."""


class Clock(NamedTuple):
    """A device's clock as it was last judged: how far ahead it is in s (negative: behind), how fast that grows in ppm
    where it is known, and its fault, with what to do about it."""

    offset: float
    drift_ppm: float | None = None
    fault: ClockFault | None = None
    says: str = ""

    def as_json(self) -> dict[str, object]:
        return {"offset": self.offset, "drift_ppm": self.drift_ppm, "fault": self.fault, "says": self.says}


class _Window(NamedTuple):
    """When a window's newest reading arrived, in ns since 1970, and how far ahead its time was, in ns."""

    at_ns: int
    offset: int


class ClockHistory:
    """Offsets of one device, in a kilobyte. `unit` is that of its rule's time: `s`, `ms`, `us`, `ns` or `rfc3339`."""

    __slots__ = (
        "_at",
        "_began",
        "_interval",
        "_last_ns",
        "_newest_ns",
        "_offsets",
        "_same",
        "_same_since",
        "_width",
        "unit",
    )

    def __init__(self, unit: str) -> None:
        self.unit = unit
        self._began, self._at, self._offsets = array("q"), array("q"), array("d")
        """One item a window. A time in the wrong unit is too large for 64 bits."""
        self._width = NS
        self._last_ns = self._newest_ns = self._interval = 0
        self._same = self._same_since = 0

    def observe(self, arrived_ns: int, time_ns: int) -> bool:
        """Note the newest time of a batch; return whether enough is new to `judge`."""
        self._note_interval(arrived_ns)
        self._note_same(arrived_ns, time_ns)
        began, offset = self._began, time_ns - arrived_ns
        if began and 0 <= arrived_ns - began[-1] < self._width:
            if offset > self._offsets[-1]:
                self._at[-1], self._offsets[-1] = arrived_ns, offset
            return False
        if len(began) == WINDOWS:
            self._make_room()
        for of_windows, value in ((self._began, arrived_ns), (self._at, arrived_ns), (self._offsets, offset)):
            of_windows.append(value)
        return len(self._began) % JUDGE_EVERY == 1 and len(self._began) > RECENT

    def _note_interval(self, arrived_ns: int) -> None:
        if self._last_ns:
            since = arrived_ns - self._last_ns
            self._interval = (7 * self._interval + since) // 8 if self._interval else since
        self._last_ns = arrived_ns

    def _note_same(self, arrived_ns: int, time_ns: int) -> None:
        if time_ns == self._newest_ns:
            self._same += 1
        else:
            self._newest_ns, self._same, self._same_since = time_ns, 0, arrived_ns

    def _make_room(self) -> None:
        """Join windows in pairs, or drop the older half. Windows to come are as wide as the joined ones: of more
        readings the largest offset is larger, and would look like a drift."""
        half = WINDOWS // 2
        kept = list(range(half, WINDOWS))
        width = max(2 * self._width, (self._began[-1] - self._began[0]) // half)
        if width <= WIDEST:
            self._width = width
            kept = [i if self._offsets[i] >= self._offsets[i + 1] else i + 1 for i in range(0, WINDOWS, 2)]
        self._began, self._at = (array("q", [times[i] for i in kept]) for times in (self._began, self._at))
        self._offsets = array("d", [self._offsets[i] for i in kept])

    def judge(self) -> Clock:
        """Return what the whole windows say; call it when `observe` says so."""
        windows = [_Window(at, int(offset)) for at, offset in zip(self._at, self._offsets, strict=True)][:-1]
        offsets = [window.offset for window in windows]
        now = int(median(offsets[-RECENT:]))
        found = (
            gross(*windows[-1], self.unit)
            or self._stuck(windows[-1].at_ns)
            or step(offsets)
            or self._drift(windows)
            or self._constant(offsets, now)
        )
        fault, says = found or (None, "")
        return Clock(round(now / NS, 3), _ppm(windows), fault, says)

    def _stuck(self, at_ns: int) -> Found | None:
        since = at_ns - self._same_since
        if self._same < STUCK_BATCHES or since < STUCK_AFTER:
            return None
        return ClockFault.STUCK, f"it has sent the same time for {span(since)}: does its clock run?"

    def _drift(self, windows: Sequence[_Window]) -> Found | None:
        if len(windows) < 3 * RECENT or not _is_straight([window.offset for window in windows]):
            return None
        slope, residual = _line(windows)
        change = abs(slope) * (windows[-1].at_ns - windows[0].at_ns)
        ppm = slope * 1e6
        waits = windows[-1].offset < 0 and (ppm > 0 or ppm < -LATER_PPM) and abs(windows[0].offset) > AHEAD
        if abs(ppm) < DRIFT_PPM or abs(ppm) > FASTEST_PPM or change < max(DRIFT_LEAST, 10 * residual) or waits:
            return None
        way = "fast" if slope > 0 else "slow"
        per_day = abs(slope) * DAY
        return ClockFault.DRIFT, f"it runs {way} by {span(int(per_day))} a day: let it synchronise often (NTP)"

    def _constant(self, offsets: Sequence[int], now: int) -> Found | None:
        recent = offsets[-RECENT:]
        is_steady = max(recent) - min(recent) <= max(2 * NS, abs(now) // 50)
        if now > AHEAD and is_steady:
            return zone(now) or leap(now) or ahead(now)
        is_always = max(offsets) < -BEHIND
        if is_always and is_steady and self._interval < -now // 2:
            behind = f"it is {span(-now)} behind, or its messages always wait so long: synchronise it (NTP)"
            return zone(now) or (ClockFault.BEHIND, behind)
        if sum((one > AHEAD) != (two > AHEAD) for one, two in pairwise(offsets)) >= 3:
            return ClockFault.JUMPS, "it jumps ahead and back: do two programs set it, or does it restart often?"
        return None


def _line(windows: Sequence[_Window]) -> tuple[float, float]:
    """Return the slope of the offsets, and their median distance from the line in ns.

    Medians of all pairs (Theil and Sen): a few readings that arrive late bend nothing.
    """
    points = [(window.at_ns, window.offset) for window in windows]
    slope = median((later - early) / (end - begin or 1) for (begin, early), (end, later) in combinations(points, 2))
    rests = [offset - slope * (at - points[0][0]) for at, offset in points]
    middle = median(rests)
    return slope, median(abs(rest - middle) for rest in rests)


def _is_straight(offsets: Sequence[int]) -> bool:
    """Return whether offsets change in the middle of their time as they do before and after it."""
    third = len(offsets) // 3
    first, middle, last = (median(offsets[at : at + third]) for at in (0, third, len(offsets) - third))
    return 0.5 <= (middle - first) / ((last - middle) or 1) <= 2


def _ppm(windows: Sequence[_Window]) -> float | None:
    """Return the drift in ppm, where the windows span long enough to say."""
    if len(windows) < 2 * RECENT:
        return None
    slope, residual = _line(windows)
    certain = residual / (windows[-1].at_ns - windows[0].at_ns or 1) < max(abs(slope) / 3, 1e-5)
    return round(slope * 1e6, 1) if certain and abs(slope) * 1e6 < FASTEST_PPM else None
