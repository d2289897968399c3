"""Clocks of the devices, learned from the times of their readings, and readings that overwrite one another.

Only rules with a `time` say anything about a clock. What is learned is kept in memory and shown with the device: after
a restart it is learned anew, from a few messages. Nothing is rejected for it.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence

from gateway import timestamps
from gateway.config import TimeRule, TopicRule
from gateway.model import Code, Reading, Readings, Rejection
from gateway.state.clocks import ClockHistory
from gateway.state.devices import DeviceRegistry

_Series = tuple[Hashable, ...]
"""Device, measurement and the tags."""
_Rules = Mapping[str, TopicRule]


class _Patients:
    """Devices of one startup whose readings have times of their own, by rules that hold until they change."""

    def __init__(self, rules: _Rules) -> None:
        self.use(rules)
        self.histories: dict[str, ClockHistory] = {}
        self.newest: dict[_Series, tuple[int, int]] = {}
        """Time of the newest reading of each series, and the hash of its fields; as many as the startup's quota allows.
        The fields themselves may be large."""

    def use(self, rules: _Rules) -> None:
        self.rules = rules
        self.timed: dict[str, TimeRule] = {name: rule.time for name, rule in rules.items() if rule.time}


class ClockDoctor:
    """Judges clocks. `rules_of` returns a startup's rules by measurement, `measurement_of` that of a topic, or ""."""

    def __init__(
        self,
        registry: DeviceRegistry,
        rules_of: Callable[[str], _Rules],
        measurement_of: Callable[[str], str],
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._registry = registry
        self._rules_of = rules_of
        self._measurement_of = measurement_of
        self._now_ns = now_ns
        self._startups: dict[str, _Patients] = {}

    def accepted(self, readings: Readings, /) -> None:
        """Compare the times of a batch with now, and with those of the readings before."""
        for startup, several in readings.items():
            patients = self._patients(startup)
            if patients.timed:
                self._observe(startup, patients, several)

    def rejected(self, rejections: Sequence[Rejection], /) -> None:
        """Compare the times that were rejected with the times at which they arrived."""
        for rejection in rejections:
            times = [reason.got for reason in rejection.reasons if reason.code is Code.BAD_TIME]
            if times and self._registry.knows(rejection.startup, rejection.device):
                self._observe_rejected(rejection, times)

    def forget(self, startups: set[str]) -> None:
        """Forget all startups but these."""
        for startup in self._startups.keys() - startups:
            del self._startups[startup]

    def _patients(self, startup: str) -> _Patients:
        rules = self._rules_of(startup)
        patients = self._startups.get(startup)
        if patients is None:
            patients = self._startups[startup] = _Patients(rules)
        elif patients.rules is not rules:
            patients.use(rules)
        return patients

    def _observe(self, startup: str, patients: _Patients, readings: Sequence[Reading]) -> None:
        timed, before = patients.timed, patients.newest
        newest: dict[str, tuple[int, str]] = {}
        overwritten: Counter[str] = Counter()
        for reading in readings:
            measurement = reading.measurement
            if measurement not in timed:
                continue
            device, time_ns = reading.device, reading.time_ns
            if device not in newest or time_ns > newest[device][0]:
                newest[device] = time_ns, measurement
            series = (device, measurement, *reading.tags.items())
            fields = hash(frozenset(reading.fields.items()))
            known = before.get(series)
            if known and known[0] == time_ns and known[1] != fields:
                overwritten[device] += 1
            before[series] = time_ns, fields
        now_ns = self._now_ns()
        for device, (time_ns, measurement) in newest.items():
            self._judge(startup, patients, device, timed[measurement], now_ns, time_ns)
        if overwritten:
            self._registry.saw_overwritten(startup, overwritten)

    def _observe_rejected(self, rejection: Rejection, times: Sequence[str]) -> None:
        patients = self._patients(rejection.startup)
        rule = patients.timed.get(self._measurement_of(rejection.topic))
        if rule is None:
            return
        found = [time_ns for text in times if (time_ns := _time(text, rule)) is not None]
        if found:
            self._judge(rejection.startup, patients, rejection.device, rule, rejection.arrived_ns, max(found))

    def _judge(self, startup: str, patients: _Patients, device: str, rule: TimeRule, now_ns: int, time_ns: int) -> None:
        history = patients.histories.get(device)
        if history is None or history.unit != rule.unit:
            history = patients.histories[device] = ClockHistory(rule.unit)
        if history.observe(now_ns, time_ns):
            self._registry.saw_clock(startup, device, history.judge())


def _time(got: str, rule: TimeRule) -> int | None:
    """Return the time in a reason, however far from now, in ns since 1970; None where it is none."""
    try:
        value = json.loads(got)
    except ValueError:
        return None
    if isinstance(value, str):
        return timestamps.from_rfc3339(value) if rule.unit == "rfc3339" else None
    if isinstance(value, bool) or not isinstance(value, int | float) or rule.unit == "rfc3339":
        return None
    return round(value * timestamps.NS_PER[rule.unit]) if abs(value) < 1e20 else None
