"""Charts of a startup's page: a group for each measurement, a panel for each field, and a choice of devices."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from contextlib import aclosing

from nicegui import events, ui

from gateway.config import Startup
from gateway.console import charts, formatting, theme
from gateway.console.charts import Drawing, Panel
from gateway.console.components import LiveChart, StateStrip
from gateway.console.theme import Text
from gateway.errors import StoreUnavailable
from gateway.feeds.live_ring import LiveRing
from gateway.model import Reading
from gateway.stores.contract import Query, Store

STORED = 1000  # the weight of a bucket from the store: readings that arrive live as well hardly change it


class _Seen:
    """Measurements and devices that there is something of: first those with readings since `oldest_ns`."""

    def __init__(self, oldest_ns: int) -> None:
        self._oldest_ns = oldest_ns
        self._newer: set[tuple[str, str]] = set()
        self._older: set[tuple[str, str]] = set()

    def add(self, readings: Iterable[Reading]) -> None:
        for reading in readings:
            group = self._newer if reading.time_ns >= self._oldest_ns else self._older
            if len(group) < charts.MAX_KNOWN:
                group.add((reading.measurement, reading.device))

    def in_order(self) -> Iterator[tuple[str, str]]:
        for group in (self._newer, self._older):
            yield from sorted(group, key=lambda pair: pair[1])


class Panels:
    """Charts of one page. Past and live readings share a `Drawing`."""

    def __init__(self, startup: Startup, store: Store, feed: LiveRing) -> None:
        self._startup = startup
        self._store = store
        self._feed = feed
        self._drawing = Drawing(startup)
        self._listed: tuple[list[str], int] = ([], 0)
        self._wanted: list[str] = []
        self._legend = theme.box("legend")
        with theme.box("legend") as self._choosing:
            self._choice = ui.select(
                [],
                multiple=True,
                with_input=True,
                on_change=self._choose,
                label=f"Devices to draw, at most {charts.MAX_DEVICES}",
            )
            self._choice.classes("choice").props(f"outlined dense hide-selected max-values={charts.MAX_DEVICES}")
        self._choosing.set_visibility(False)
        self._groups = theme.box("stack")
        self._panels: dict[Panel, LiveChart | StateStrip] = {}

    async def build(self) -> None:
        """Make the charts, one after the other: there may be hundreds, and others have their turns in between."""
        for measurement in self._startup.topics:
            if self._groups.is_deleted:
                return
            with self._groups, theme.box("group", "section") as section:
                section.props["aria-label"] = f"Charts of {measurement}"
                with theme.box("group-head"):
                    Text("h2", measurement)
                    Text("span", self._startup.topics[measurement].template.text, "mono")
                await self._charts(measurement)

    async def _charts(self, measurement: str) -> None:
        rules = {panel: rule for panel, rule in self._drawing.panels.items() if panel[0] == measurement}
        silent_after = self._startup.topics[measurement].silent_after
        curves = [panel for panel, rule in rules.items() if not charts.is_state(rule)]
        with theme.box(f"charts charts-{len(curves) if len(curves) <= 6 else 'many'}"):
            for panel in [*curves, *(panel for panel in rules if panel not in curves)]:
                kind = StateStrip if charts.is_state(rules[panel]) else LiveChart
                self._panels[panel] = kind(charts.spec(panel, rules[panel], silent_after))
                await asyncio.sleep(0)
                if self._groups.is_deleted:  # the page was closed
                    return

    def add(self, readings: Iterable[Reading]) -> None:
        """Add live readings to the next push."""
        for reading in readings:
            self._drawing.add(reading.measurement, reading.device, reading.tags, reading.fields, reading.time_ns)

    def push(self) -> None:
        """Send what is new."""
        for panel, news in self._drawing.take():
            self._panels[panel].push(news)

    async def open(self) -> str:
        """Find out what there is to draw. Return why it cannot be read; empty if it can."""
        problem = ""
        found = _Seen(time.time_ns() - charts.WINDOW_NS)
        found.add(self._recent())
        try:
            async with aclosing(self._store.latest(self._startup.slug)) as chunks:
                async for chunk in chunks:
                    found.add(chunk)
        except StoreUnavailable as error:
            problem = str(error)
        for measurement, device in found.in_order():
            self._drawing.see(measurement, device)
        return problem

    async def follow(self) -> str:
        """Draw devices that are new, or chosen. Return why their past cannot be shown; empty if it can."""
        new, self._wanted = [*self._wanted, *self._drawing.fill_up()], []
        problem = await self._load(new) if new else ""
        listed = (self._drawing.known, self._drawing.left_out)
        if new or listed != self._listed:
            self._listed = listed
            self._show_legend()
        return problem

    async def _load(self, devices: list[str]) -> str:
        """Draw the past of these devices: from the store, and what is too new to be there."""
        now_ns = time.time_ns()
        problem = ""
        for measurement in self._startup.topics:
            for device in devices:
                try:
                    await self._past(measurement, device, now_ns)
                except StoreUnavailable as error:
                    problem = str(error)
            self.push()
        self.add(reading for reading in self._recent() if reading.device in devices)
        return problem

    def _recent(self) -> list[Reading]:
        return [event.of for event in self._feed.recent() if isinstance(event.of, Reading)]

    async def _past(self, measurement: str, device: str, now_ns: int) -> None:
        query = Query(measurement, now_ns - charts.WINDOW_NS, now_ns, device, charts.BUCKET_NS)
        async with aclosing(self._store.history(self._startup.slug, query)) as chunks:
            async for rows in chunks:
                for row in rows:
                    self._drawing.add(measurement, device, row.tags, row.fields, row.time_ns, STORED)

    # ------------------------------------------------------------------ which devices

    def _choose(self, event: events.ValueChangeEventArguments[list[str]]) -> None:
        if set(event.value) == set(self._drawing.colours):
            return
        gone, new = self._drawing.choose(event.value)
        self._wanted += new
        for panel in self._panels.values():
            panel.drop(gone)
        self._show_legend()

    def _show_legend(self) -> None:
        shown, known = self._drawing.colours, self._drawing.known
        remarks = [
            f"{len(shown)} of {len(known)} drawn" if len(known) > len(shown) else "",
            f"{formatting.plural(self._drawing.left_out, 'line')} too many" if self._drawing.left_out else "",
        ]
        self._legend.clear()
        with self._legend:
            for device, colour in sorted(shown.items()):
                theme.chip(device, colour)
            with theme.box("legend-rest"):
                for remark in filter(None, remarks):
                    Text("span", remark, "muted")
                if len(known) > 1:
                    Text("button", "Choose devices", "quiet").on("click", self._toggle_choice)

    def _toggle_choice(self) -> None:
        self._choice.set_options(self._drawing.known, value=sorted(self._drawing.colours))
        self._choosing.set_visibility(not self._choosing.visible)
