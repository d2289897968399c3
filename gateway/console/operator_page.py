"""Operators' page: all startups, the ledger, the parts of the gateway, and messages of no startup."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial

from nicegui import background_tasks, ui

from gateway.api.services import Services
from gateway.console import charts, formatting, tables, theme
from gateway.console.components import LiveChart, LiveTable, Rejections
from gateway.console.follower import Follower
from gateway.console.open_pages import OpenPage
from gateway.console.sampler import Sampler
from gateway.console.theme import Frame, State, Text
from gateway.errors import StateUnavailable
from gateway.health import Health, failing
from gateway.model import UNROUTED, Counts

EVERY = 1.0
DEAD_LETTERS = 25
RATE_BUCKET = 2.0
LINES = 12
_TERMS = (
    ("received", "=", "accepted", "+", "rejected"),
    ("accepted", "=", "stored", "+", "journaled", "+", "refused"),
)
_PARTS = ("broker", "disk", "journal", "sessions", "queues", "store", "config")
_MAY_FAIL = ("sessions", "queues", "store", "config")  # messages are accepted all the same
_NAMES = {"journaled": "waiting"}


class OperatorPage:
    """An open operators' page. `allowed` is checked every second, beside what ends the page at once."""

    def __init__(
        self, services: Services, sampler: Sampler, frame: Frame, page: OpenPage, allowed: Callable[[], bool]
    ) -> None:
        self._services = services
        self._config = services.config
        self._startups = services.config.served
        self._sampler = sampler
        self._frame = frame
        self._page = page
        self._allowed = allowed
        self._follower = Follower(services.live.feed(UNROUTED))
        self._drawn = 0.0
        self._started = False
        self._terms: list[tuple[str, Text]] = []
        self._parts: dict[str, tuple[State, Text]] = {}
        self._build()
        ui.timer(EVERY, self._tick)

    def _build(self) -> None:
        with theme.box("pair"):
            with theme.card("Ledger") as head:
                with head:
                    self._balanced = State()
                with theme.box("equations"):
                    for terms in _TERMS:
                        self._equation(terms)
            with theme.card("Parts of the gateway"), theme.box("parts"):
                for name in _PARTS:
                    with theme.box("part"):
                        Text("span", name, "muted")
                        self._parts[name] = (State(), Text("span", "", "part-problem"))
        with theme.card("Startups", "wide"):
            self._table = LiveTable("Startups", tables.STARTUP_COLUMNS, "No startup is configured.")
        with theme.box("card chart-tall"):
            self._chart = LiveChart(_rate_spec())
            self._build_legend()
        with theme.card("Messages of no startup") as head:
            with head:
                Text("span", "on topics that no startup owns", "muted")
            self._rejections = Rejections("Every message so far belongs to a startup.")

    def _build_legend(self) -> None:
        with theme.box("legend"):
            for place, startup in enumerate(self._startups[:LINES]):
                theme.chip(startup.name, place % charts.MAX_DEVICES)
            if len(self._startups) > LINES:
                Text("span", f"{LINES} of {len(self._startups)} drawn", "muted")

    def _equation(self, terms: tuple[str, ...]) -> None:
        with theme.box("equation"):
            for term in terms:
                if term in "=+":
                    Text("span", term, "sign")
                    continue
                with theme.box("term"):
                    self._terms.append((term, Text("span", "–", "term-value")))
                    Text("span", _NAMES.get(term, term), "term-label")

    # ------------------------------------------------------------------ every second

    async def _tick(self) -> None:
        if not self._allowed():
            self._page.end("ended")
            return
        if self._services.config is not self._config:
            ui.navigate.reload()  # other startups, or other names
            return
        if not self._started:
            self._started = True
            await self._start()
        health = self._services.health()
        self._show_ledger()
        self._show_parts(health)
        await self._show_startups(health)
        self._show_rates()
        self._rejections.push([formatting.rejection(one) for one in self._follower.take().rejections])

    async def _start(self) -> None:
        following = background_tasks.create(self._follower.run(), name="console-operator")
        self._page.on_close(following.cancel)
        try:
            read = partial(self._services.state.dead_letters, UNROUTED, limit=DEAD_LETTERS)
            found = await self._services.limits.computing.run(UNROUTED, read)
        except StateUnavailable as error:
            self._frame.notices.show("dead letters", f"Earlier rejections cannot be read: {error}")
            return
        self._rejections.push([formatting.rejection(one.rejection) for one in reversed(found.letters)])

    def _show_ledger(self) -> None:
        balance = self._sampler.newest.balance
        total = Counts.total(balance).as_json()
        for term, shown in self._terms:
            shown.say(formatting.count(int(total[term])))
        wrong = {slug: formatting.imbalance(counts) for slug, counts in balance.items() if not counts.balanced}
        self._balanced.show("does not balance" if wrong else "balances", "bad" if wrong else "good")
        problems = "; ".join(f"{slug}: {problem}" for slug, problem in wrong.items())
        self._frame.notices.show("ledger", f"The ledger does not balance. {problems}" if wrong else "", bad=True)
        problem = self._sampler.problem
        self._frame.notices.show("state", f"The ledger cannot be read: {problem}" if problem else "", bad=True)

    def _show_parts(self, health: Health) -> None:
        problems = {part.name: part.problem for part in (*health.needed, health.queues, health.config)}
        problems |= {"sessions": failing(health.sessions), "store": failing(health.stores)}
        for name, (state, shown) in self._parts.items():
            problem = problems.get(name, "")
            tone = "good" if not problem else "warn" if name in _MAY_FAIL else "bad"
            state.show("not working" if problem else "ok", tone)
            shown.say(problem)
        self._frame.state.show("Live" if health.is_ready else "Not live", "good" if health.is_ready else "bad")

    async def _show_startups(self, health: Health) -> None:
        now_ns, computing = time.time_ns(), self._services.limits.computing
        balance = self._sampler.newest.balance
        rows = []
        for startup in self._startups:
            slug = startup.slug
            devices = self._services.devices(slug)
            if len(devices) > tables.COUNTED_AT_ONCE:
                states = await tables.states_of(startup, devices, now_ns, computing)
            else:
                states = tables.states(startup, devices, now_ns)
            counts = self._sampler.newest.counts(slug)
            session, store = health.sessions.get(slug), health.stores.get(slug)
            problems = (session.problem if session else "", store.problem if store else "")
            rows.append(tables.startup_row(startup, counts, self._sampler.rates(slug), states, *problems))
            await asyncio.sleep(0)  # there may be a thousand
        strays = [slug for slug in balance if slug not in self._config.by_slug]
        rows += [tables.stray_row(slug, balance[slug], self._sampler.rates(slug)) for slug in strays]
        self._table.show(rows)

    def _show_rates(self) -> None:
        """Push the rates of the startups that have a line; each sample is sent once."""
        names = {startup.slug: startup.name for startup in self._startups[:LINES]}
        points = {slug: self._sampler.history(slug, self._drawn) for slug in names}
        if not any(points.values()):
            return
        self._drawn = self._sampler.newest.at
        self._chart.push(
            {
                "lines": [
                    [slug, name, place % charts.MAX_DEVICES, place // charts.MAX_DEVICES]
                    for place, (slug, name) in enumerate(names.items())
                ],
                "points": {
                    slug: [[round(at / RATE_BUCKET), round(value, 3), 1] for at, value in several]
                    for slug, several in points.items()
                },
            }
        )


def _rate_spec() -> dict[str, object]:
    return {
        "name": "Received",
        "label": "Records received per second, by startup, the last 15 minutes",
        "unit": "records per second, by startup",
        "min": 0,
        "max": None,
        "limits": "",
        "empty": "the first rates appear within seconds",
        "window": charts.WINDOW_NS // 1_000_000,
        "bucket": int(RATE_BUCKET * 1000),
    }
