"""A startup's page: live charts, devices, the newest rejections.

Each page has a follower, which gathers events; what is new is pushed once a second. Both end with the page.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from functools import partial

from nicegui import background_tasks, ui

from gateway.api.services import Services
from gateway.config import Startup
from gateway.console import formatting, tables, theme
from gateway.console.components import LiveTable, Rejections
from gateway.console.follower import Follower
from gateway.console.open_pages import OpenPage
from gateway.console.panels import Panels
from gateway.console.sampler import Sampler
from gateway.console.theme import Figure, Frame, Text
from gateway.errors import StateUnavailable
from gateway.model import Counts
from gateway.rules.example import example
from gateway.state.devices import Device

EVERY = 1.0
DEAD_LETTERS = 40
ADDED_AT_ONCE = 250
"""Readings that are added to the charts before others have their turns."""


def remark(startup: Startup) -> str:
    """Return the cohort and the end date, to be shown beside the name."""
    parts = [startup.cohort, f"until {formatting.day(startup.until)}" if startup.until else ""]
    return " · ".join(part for part in parts if part)


class StartupPage:
    """An open page of a startup. `allowed` is checked every second, beside what ends the page at once."""

    def __init__(
        self,
        services: Services,
        sampler: Sampler,
        startup: Startup,
        frame: Frame,
        page: OpenPage,
        allowed: Callable[[], bool],
    ) -> None:
        self._services = services
        self._sampler = sampler
        self._startup = startup
        self._frame = frame
        self._page = page
        self._allowed = allowed
        self._feed = services.live.feed(startup.slug)
        self._follower = Follower(self._feed)
        self._missed = 0
        self._started = False
        self._build()
        ui.timer(EVERY, self._tick)

    def _build(self) -> None:
        with theme.box("card figures", "section") as section:
            section.props["aria-label"] = "Figures"
            self._rate = Figure("Readings per second")
            self._accepted = Figure("Accepted")
            self._rejected = Figure("Rejected")
            self._stored = Figure("Stored")
            self._devices = Figure("Devices")
        with theme.box("split"):
            with theme.box("stack"):
                self._guide = self._build_guide()
                with theme.box("stack") as self._charts:
                    self._panels = Panels(self._startup, self._services.store, self._feed)
            with theme.box("stack"):
                with theme.card("Devices") as head:
                    with head:
                        self._device_remark = Text("span", "", "muted")
                    self._table = LiveTable("Devices", tables.DEVICE_COLUMNS, "No device has been seen yet.")
                with theme.card("Newest rejections"):
                    self._rejections = Rejections("Nothing has been rejected.")
        self._show_figures(self._services.devices(self._startup.slug), {})

    def _build_guide(self) -> ui.element:
        with theme.box("card guide", "section") as section:
            Text("h2", "No readings yet")
            Text(
                "p",
                "Publish a message over MQTT, and it is drawn here within a second. These messages are accepted, with "
                "names of your own in place of those in capitals:",
            )
        return section

    async def _show_examples(self) -> None:
        for name, rule in self._startup.topics.items():
            shown = example(rule, time.time_ns())
            with self._guide, theme.box("guide-rule"):
                Text("div", name, "muted")
                Text("pre", f"{shown.topic}\n{shown.payload}" if shown else "No message can satisfy this rule.")
            await asyncio.sleep(0)
            if self._guide.is_deleted:  # the page was closed
                return

    # ------------------------------------------------------------------ every second

    async def _tick(self) -> None:
        if not self._allowed():
            self._page.end("ended")
            return
        if self._is_outdated():
            ui.navigate.reload()
            return
        if not self._started:
            self._started = True
            await self._start()
        now_ns = time.time_ns()
        devices = self._services.devices(self._startup.slug)
        states = await tables.states_of(self._startup, devices, now_ns, self._services.limits.computing)
        self._show_figures(devices, states)
        self._table.show(tables.device_rows(self._startup, devices, now_ns))
        self._show_problem_of_past(await self._panels.follow())
        await self._push()
        self._show_health()

    def _is_outdated(self) -> bool:
        """Return whether the startup has changed, has another host now, or was removed and added again."""
        slug, config = self._startup.slug, self._services.config
        is_same = config.by_slug[slug] == self._startup and config.serves(self._startup)
        return not is_same or self._services.live.feed(slug) is not self._feed

    async def _start(self) -> None:
        """Add what each rule has on the page, follow the feed from now on, and read the earlier rejections."""
        await self._show_examples()
        await self._panels.build()
        following = background_tasks.create(self._follower.run(), name=f"console-{self._startup.slug}")
        self._page.on_close(following.cancel)
        self._show_problem_of_past(await self._panels.open())
        slug = self._startup.slug
        try:
            read = partial(self._services.state.dead_letters, slug, limit=DEAD_LETTERS)
            found = await self._services.limits.computing.run(slug, read)
        except StateUnavailable as error:
            self._frame.notices.show("dead letters", f"Earlier rejections cannot be read: {error}")
            return
        self._rejections.push([formatting.rejection(one.rejection) for one in reversed(found.letters)])

    def _show_problem_of_past(self, problem: str) -> None:
        if problem:
            self._frame.notices.show(
                "past",
                f"The last 15 minutes cannot be read: {problem}. New readings are drawn "
                "as they arrive; reload the page to try again.",
            )

    async def _push(self) -> None:
        gathered = self._follower.take()
        for start in range(0, len(gathered.readings), ADDED_AT_ONCE):
            self._panels.add(gathered.readings[start : start + ADDED_AT_ONCE])
            await asyncio.sleep(0)
        self._panels.push()
        self._rejections.push([formatting.rejection(one) for one in gathered.rejections])
        if gathered.missed:
            self._missed += gathered.missed
            remark = (
                f"{formatting.plural(self._missed, 'reading')} arrived faster than this page can draw. Nothing is "
                "lost: they are stored like all others."
            )
            self._frame.notices.show("missed", remark, dismiss=self._forget_missed)

    def _forget_missed(self) -> None:
        self._missed = 0
        self._frame.notices.show("missed", "")

    # ------------------------------------------------------------------ figures and notices

    def _show_figures(self, devices: list[Device], states: Mapping[str, int]) -> None:
        counts = self._sampler.newest.counts(self._startup.slug)
        rates = self._sampler.rates(self._startup.slug)
        self._rate.show(formatting.rate(rates.accepted), "over the last 10 seconds")
        self._accepted.show(formatting.count(counts.accepted), self._share(counts.accepted, counts))
        tone = "is-bad" if rates.rejected > 0 else ""
        self._rejected.show(formatting.count(counts.rejected), self._share(counts.rejected, counts), tone)
        self._stored.show(formatting.count(counts.stored), _not_stored(counts))
        self._devices.show(
            formatting.count(len(devices)), tables.states_in_words(states) if states or not devices else ""
        )
        if len(devices) > tables.DEVICES_SHOWN:
            self._device_remark.say(f"the first {tables.DEVICES_SHOWN} of {formatting.count(len(devices))}")
        is_empty = not counts.accepted and not any(device.accepted for device in devices)
        self._guide.set_visibility(is_empty)
        self._charts.set_visibility(not is_empty)

    def _share(self, part: int, counts: Counts) -> str:
        share = formatting.share(part, counts.received)
        return f"{share} of all received" if share else "nothing received yet"

    def _show_health(self) -> None:
        health = self._services.health()
        problems = {part.name: part.problem for part in health.needed if part.problem}
        if problems:
            self._frame.state.show("Not live", "bad")
        else:
            self._frame.state.show("Live", "good")
        for part in health.needed:
            problem = f"No new messages are accepted ({part.name}): {part.problem}" if part.problem else ""
            self._frame.notices.show(part.name, problem, bad=True)
        session = health.sessions.get(self._startup.slug)
        held = f"New messages wait at the broker: {session.problem}" if session and session.problem else ""
        self._frame.notices.show("session", held, bad=True)
        store = health.stores.get(self._startup.slug)
        waiting = f"Readings are accepted and wait in the journal: {store.problem}" if store and store.problem else ""
        self._frame.notices.show("store", waiting)


def _not_stored(counts: Counts) -> str:
    parts = [
        f"{formatting.count(counts.journaled)} waiting" if counts.journaled else "",
        f"{formatting.count(counts.refused)} refused by the store" if counts.refused else "",
    ]
    return ", ".join(part for part in parts if part) or ("all that were accepted" if counts.stored else "")
