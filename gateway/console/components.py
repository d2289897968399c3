"""Elements that keep their data in the browser: the server pushes what is new, and holds none of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import nicegui.elements.echart  # noqa: F401  # registers the module that live_chart.js imports
from nicegui import ui

Cell = tuple[str | int | float | None, ...]
"""Text, sort key (the text itself if absent), remark."""


class _Windowed(ui.element):
    """A panel over a moving window of time."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        super().__init__()
        self._props["spec"] = dict(spec)

    def push(self, news: Mapping[str, Any]) -> None:
        """Push lines and points, as `charts.Drawing.take` yields them."""
        self.run_method("push", {"now": time.time_ns() // 1_000_000, **news})

    def drop(self, devices: Sequence[str]) -> None:
        """Remove the lines of these devices."""
        self.run_method("drop", list(devices))


class LiveChart(_Windowed, component="js/live_chart.js", dependencies=["js/console_window.js", "js/console_axis.js"]):
    """Curves, one for each series."""


class StateStrip(_Windowed, component="js/state_strip.js", dependencies=["js/console_window.js"]):
    """Blocks, in a row for each series."""


class LiveTable(ui.element, component="js/live_table.js"):
    """Rows by key. Columns have a name, a label and a kind: text, number, state or link."""

    def __init__(self, label: str, columns: Sequence[Mapping[str, Any]], empty: str) -> None:
        super().__init__()
        self._props["spec"] = {"label": label, "columns": [dict(column) for column in columns], "empty": empty}
        self._sent: dict[str, dict[str, Any]] = {}

    def show(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Show exactly these rows, in this order; only changed ones are sent."""
        new = {str(row["key"]): dict(row) for row in rows}
        changed = [row for key, row in new.items() if self._sent.get(key) != row]
        if changed or list(new) != list(self._sent):
            self._sent = new
            self.run_method("push", changed, list(new))


class Rejections(ui.element, component="js/rejections.js"):
    """Newest rejections, as `formatting.rejection` formats them."""

    def __init__(self, empty: str) -> None:
        super().__init__()
        self._props["empty"] = empty

    def push(self, news: Sequence[Mapping[str, object]]) -> None:
        """Add rejections, the oldest first."""
        if news:
            self.run_method("push", [dict(one) for one in news])
