"""What a startup's charts show: panels from its rules, lines, and the points between two pushes. Pure.

Time is cut into buckets of two seconds; of each line the newest value in a bucket is drawn. The browser holds the
window of the last 15 minutes, so that the server keeps nothing but what the next push will bring.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from gateway.config import FieldRule, Startup
from gateway.console import words
from gateway.console.lines import Line, Lines
from gateway.model import FieldValue
from gateway.timestamps import NS

WINDOW_NS = 15 * 60 * NS
BUCKET_NS = 2 * NS
MAX_DEVICES = 8  # as many colours as can be told apart
MAX_TEXT = 40  # characters of a state

Panel = tuple[str, str]
"""Measurement and field: what one chart shows."""


@dataclass(slots=True)
class _Points:
    """What one panel gets with the next push: of each line, the value of each bucket."""

    lines: dict[str, Line] = field(default_factory=dict)
    values: dict[str, dict[int, FieldValue]] = field(default_factory=dict)

    def add(self, line: Line, bucket: int, value: FieldValue) -> None:
        self.lines[line.key] = line
        self.values.setdefault(line.key, {})[bucket] = value

    def drop(self, device: str) -> None:
        for key in [line.key for line in self.lines.values() if line.device == device]:
            del self.lines[key], self.values[key]


class Drawing:
    """The charts of one page: which devices are drawn, and what has come since the last push."""

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
        self._points: dict[Panel, _Points] = {}

    @property
    def left_out(self) -> int:
        """How many lines of the devices are not drawn, because there are too many of one measurement."""
        return sum(lines.left_out for lines in self._lines.values())

    @property
    def known(self) -> list[str]:
        """The devices that could be drawn, by name."""
        return sorted({device for devices in self._seen.values() for device in devices})

    def see(self, measurement: str, device: str) -> None:
        """There is something of this device to be drawn."""
        if measurement in self._seen:
            self._seen[measurement][device] = None

    def choose(self, devices: Iterable[str]) -> tuple[list[str], list[str]]:
        """Draw these, up to `MAX_DEVICES`; who stays keeps the colour. Returns who goes and who is new."""
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
        """As long as nobody has chosen: draw what was seen, of each measurement in turn; returns who is new."""
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
        for points in self._points.values():
            points.drop(device)

    def _give_colour(self, device: str) -> None:
        taken = set(self.colours.values())
        self.colours[device] = next(colour for colour in range(MAX_DEVICES) if colour not in taken)

    def add(
        self, measurement: str, device: str, tags: Mapping[str, str], fields: Mapping[str, FieldValue], time_ns: int
    ) -> None:
        """One reading, or one row of history, for the next push."""
        self.see(measurement, device)
        if device not in self.colours or measurement not in self._lines:
            return
        line = self._lines[measurement].find(device, tags)
        if line is None:
            return
        bucket = time_ns // BUCKET_NS
        for name, value in fields.items():
            if (measurement, name) in self.panels:
                self._points.setdefault((measurement, name), _Points()).add(line, bucket, value)

    def take(self) -> Iterator[tuple[Panel, dict[str, Any]]]:
        """What each panel that has something new gets. Emptied by being taken."""
        points, self._points = self._points, {}
        for panel, new in points.items():
            write = _steps if is_state(self.panels[panel]) else _values
            yield (
                panel,
                {
                    "lines": [[one.key, one.label, self.colours[one.device], one.dash] for one in new.lines.values()],
                    "points": {key: write(values) for key, values in new.values.items()},
                },
            )


def is_state(rule: FieldRule) -> bool:
    """Whether a field is drawn as a strip of states rather than as a curve."""
    return rule.type in ("bool", "string")


def spec(panel: Panel, rule: FieldRule) -> dict[str, Any]:
    """What the browser has to know of a panel. Times in ms."""
    symbol = words.unit(rule.unit)
    return {
        "name": panel[1],
        "label": f"{panel[0]}: {panel[1]}{f' in {symbol}' if symbol else ''}, the last 15 minutes",
        "unit": symbol,
        "min": rule.min,
        "max": rule.max,
        "limits": words.limits(rule.min, rule.max, symbol),
        "empty": "nothing of these devices in the last 15 minutes",
        "window": WINDOW_NS // 1_000_000,
        "bucket": BUCKET_NS // 1_000_000,
    }


def _values(values: Mapping[int, FieldValue]) -> list[list[float]]:
    """`[bucket, value]` by time, with seven digits: more cannot be seen."""
    return [[bucket, float(f"{float(value):.7g}")] for bucket, value in sorted(values.items())]


def _steps(values: Mapping[int, FieldValue]) -> list[list[int | str]]:
    """`[first bucket, last bucket, state]` by time; what stays the same is one step."""
    steps: list[list[int | str]] = []
    for bucket, value in sorted(values.items()):
        state = _state(value)
        if steps and steps[-1][2] == state:
            steps[-1][1] = bucket
        else:
            steps.append([bucket, bucket, state])
    return steps


def _state(value: FieldValue) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = str(value)
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"
