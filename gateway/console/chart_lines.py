"""Lines of a chart: one for each series, distinguished by device and tags. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

MAX_LINES = 32  # of one measurement; further ones are counted, but not drawn
KEY_SEPARATOR = "\x1f"


class Line(NamedTuple):
    """A series in a chart: its device has a colour, and each further set of the device's tags another dash."""

    key: str
    label: str
    device: str
    dash: int


class Lines:
    """Lines of one measurement, in order of appearance."""

    def __init__(self, captured: Sequence[str]) -> None:
        self._captured = captured
        self._lines: dict[tuple[str, ...], Line] = {}
        self._left_out: set[int] = set()

    @property
    def left_out(self) -> int:
        """Number of lines that are not drawn."""
        return len(self._left_out)

    def find(self, device: str, tags: Mapping[str, str]) -> Line | None:
        """Return the line of a series; None if there are too many."""
        key = (device, *(text for pair in sorted(tags.items()) if pair[1] and pair[0] != "device" for text in pair))
        line = self._lines.get(key)
        if line is None and len(self._lines) < MAX_LINES:
            line = self._lines[key] = self._make(key, device, tags)
        elif line is None:
            self._left_out.add(hash(key))
        return line

    def drop(self, device: str) -> None:
        """Forget the lines of a device, which makes room for others."""
        self._lines = {key: line for key, line in self._lines.items() if line.device != device}
        self._left_out.clear()

    def _make(self, key: tuple[str, ...], device: str, tags: Mapping[str, str]) -> Line:
        label = " · ".join([device, *(tags[name] for name in self._captured if tags.get(name))])
        if any(line.label == label for line in self._lines.values()):
            more = [f"{name} {text}" for name, text in sorted(tags.items()) if name not in (*self._captured, "device")]
            label = " · ".join([label, *more])
        dash = sum(line.device == device for line in self._lines.values())
        return Line(KEY_SEPARATOR.join(key), label, device, dash)
