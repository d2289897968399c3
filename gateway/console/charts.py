"""A startup's charts: panels from its rules, lines, and the points between two pushes. Pure.

Time is divided into buckets of five seconds, as many as can be distinguished in a chart: the mean of each is drawn,
and the newest value shown beside it. The browser holds the window of the last 15 minutes, so that the server keeps only
the next push.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from gateway.config import FieldRule, Startup
from gateway.console import formatting
from gateway.console.chart_lines import Line, Lines
from gateway.model import FieldValue
from gateway.timestamps import NS

WINDOW_NS = 15 * 60 * NS
BUCKET_NS = 5 * NS
MAX_DEVICES = 8  # as many as there are colours that can be distinguished
MAX_KNOWN = 1000  # devices of a measurement that can be chosen: the browser gets all of them as a list
MAX_TEXT = 40  # characters of a state

Panel = tuple[str, str]
"""Measurement and field of a chart."""


@dataclass(slots=True)
class _News:
    """Next push for one line of a panel."""

    line: Line
    last_ns: int = 0
    last: FieldValue = 0
    sums: dict[int, list[float]] = field(default_factory=dict)
    states: dict[int, str] = field(default_factory=dict)

    def add(self, value: FieldValue, time_ns: int, weight: int, is_state: bool) -> None:
        bucket = time_ns // BUCKET_NS
        if is_state:
            self.states[bucket] = _state(value)
        else:
            total = self.sums.setdefault(bucket, [0.0, 0.0])
            total[0] += float(value) * weight
            total[1] += weight
        if time_ns >= self.last_ns:
            self.last_ns, self.last = time_ns, value

    def means(self) -> list[list[float]]:
        """Return `[bucket, mean, weight]` by time, with seven digits: more cannot be seen."""
        return [
            [bucket, float(f"{total / weight:.7g}"), weight] for bucket, (total, weight) in sorted(self.sums.items())
        ]

    def steps(self) -> list[list[int | str]]:
        """Return `[first bucket, last bucket, state]` by time; buckets of the same state are one step."""
        steps: list[list[int | str]] = []
        for bucket, state in sorted(self.states.items()):
            if steps and steps[-1][2] == state:
                steps[-1][1] = bucket
            else:
                steps.append([bucket, bucket, state])
        return steps


class Drawing:
    """Charts of one page: the devices that are drawn, and what has arrived since the last push."""

    def __init__(self, startup: Startup) -> None:
        self.panels: dict[Panel, FieldRule] = {
            (measurement, name): rule
            for measurement, topic in startup.topics.items()
            for name, rule in topic.fields.items()
        }
        self.colours: dict[str, int] = {}
        self._chosen = False
        self._seen: dict[str, dict[str, None]] = {name: {} for name in startup.topics}
        self._lines = {
            name: Lines([capture for capture in topic.template.captures if capture != "device"])
            for name, topic in startup.topics.items()
        }
        self._news: dict[Panel, dict[str, _News]] = {}

    @property
    def left_out(self) -> int:
        """Number of lines that are not drawn because one measurement has too many."""
        return sum(lines.left_out for lines in self._lines.values())

    @property
    def known(self) -> list[str]:
        """Devices that can be drawn, by name."""
        return sorted({device for devices in self._seen.values() for device in devices})

    def see(self, measurement: str, device: str) -> None:
        """Note that there is something of this device to draw."""
        known = self._seen.get(measurement)
        if known is not None and (len(known) < MAX_KNOWN or device in known):
            known[device] = None

    def choose(self, devices: Iterable[str]) -> tuple[list[str], list[str]]:
        """Draw these devices, at most `MAX_DEVICES`; those that stay keep their colour. Return the removed and new."""
        wanted = list(devices)[:MAX_DEVICES]
        self._chosen = True
        gone = [device for device in self.colours if device not in wanted]
        new = [device for device in wanted if device not in self.colours]
        for device in gone:
            self._drop(device)
        for device in new:
            self._give_colour(device)
        return gone, new

    def fill_up(self) -> list[str]:
        """Until somebody chooses, draw the devices seen, of each measurement in turn. Return the new ones."""
        room = MAX_DEVICES - len(self.colours)
        if self._chosen or not room:
            return []
        turns = (device for turn in zip_longest(*self._seen.values()) for device in turn if device is not None)
        new = [device for device in dict.fromkeys(turns) if device not in self.colours][:room]
        for device in new:
            self._give_colour(device)
        return new

    def _drop(self, device: str) -> None:
        del self.colours[device]
        for lines in self._lines.values():
            lines.drop(device)
        for panel, news in self._news.items():
            self._news[panel] = {key: one for key, one in news.items() if one.line.device != device}

    def _give_colour(self, device: str) -> None:
        taken = set(self.colours.values())
        self.colours[device] = next(colour for colour in range(MAX_DEVICES) if colour not in taken)

    def add(
        self,
        measurement: str,
        device: str,
        tags: Mapping[str, str],
        fields: Mapping[str, FieldValue],
        time_ns: int,
        weight: int = 1,
    ) -> None:
        """Add a reading, or a row of history with its `weight`, to the next push."""
        self.see(measurement, device)
        if device not in self.colours or measurement not in self._lines:
            return
        line = self._lines[measurement].find(device, tags)
        if line is None:
            return
        for name, value in fields.items():
            rule = self.panels.get((measurement, name))
            if rule is not None:
                news = self._news.setdefault((measurement, name), {})
                news.setdefault(line.key, _News(line)).add(value, time_ns, weight, is_state(rule))

    def take(self) -> Iterator[tuple[Panel, dict[str, Any]]]:
        """Yield the push of each panel that has something new, and forget it."""
        taken, self._news = self._news, {}
        for panel, news in taken.items():
            lines = [one.line for one in news.values()]
            push: dict[str, Any] = {
                "lines": [[line.key, line.label, self.colours[line.device], line.dash] for line in lines]
            }
            if is_state(self.panels[panel]):
                push["points"] = {key: one.steps() for key, one in news.items()}
            else:
                push["points"] = {key: one.means() for key, one in news.items()}
                push["last"] = {key: [one.last_ns // 1_000_000, one.last] for key, one in news.items()}
            yield panel, push


def is_state(rule: FieldRule) -> bool:
    """Return whether a field is drawn as a strip of states rather than as a curve."""
    return rule.type in ("bool", "string")


def spec(panel: Panel, rule: FieldRule, silent_after: float) -> dict[str, Any]:
    """Return what the browser must know of a panel, with times in ms.

    A state holds until the next one comes, or until the device has been silent for `silent_after` seconds.
    """
    symbol = formatting.unit(rule.unit)
    return {
        "name": panel[1],
        "label": f"{panel[0]}: {panel[1]}{f' in {symbol}' if symbol else ''}, the last 15 minutes",
        "unit": symbol,
        "min": rule.min,
        "max": rule.max,
        "limits": formatting.limits(rule.min, rule.max, symbol),
        "empty": "no readings from these devices in the last 15 minutes",
        "window": WINDOW_NS // 1_000_000,
        "bucket": BUCKET_NS // 1_000_000,
        "holds": round(silent_after * 1000),
    }


def _state(value: FieldValue) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = str(value)
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"
