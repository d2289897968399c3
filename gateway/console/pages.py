"""Console's addresses, and who may see what."""

from __future__ import annotations

import time

from nicegui import Client, background_tasks, ui

from gateway.api.auth import Principal
from gateway.api.services import Services
from gateway.console import dead_ends, startup_page, theme
from gateway.console.open_pages import OpenPage, OpenPages
from gateway.console.operator_page import OperatorPage
from gateway.console.sampler import Sampler
from gateway.console.sign_ins import SignIn, SignIns
from gateway.console.startup_page import StartupPage
from gateway.fair_lock import FairLock

BUILT_WITHIN = 30.0
"""Seconds in which a page is built, where many are wanted at once."""


class Visit:
    """A visit to a page, by somebody who has signed in."""

    def __init__(self, services: Services, sign_ins: SignIns, open_pages: OpenPages, client: Client) -> None:
        self._services = services
        self._sign_ins = sign_ins
        self._sign_in: SignIn = client.request.scope["sign_in"]
        self.page: OpenPage = open_pages.open(client, self._sign_in)

    @property
    def principal(self) -> Principal:
        return self._sign_in.principal

    def may_see(self, startup: str) -> bool:
        """Return whether the page may still show a startup."""
        found = self._services.config.by_slug.get(startup)
        if found is None or not self.principal.may_see(startup) or not self._holds():
            return False
        return self.principal.is_operator or not found.has_ended(time.time_ns())

    def is_operator(self) -> bool:
        """Return whether the page may still show everything."""
        return self.principal.is_operator and self._holds()

    def sign_out(self) -> None:
        background_tasks.create(self._sign_ins.end(self._sign_in), name="console-sign-out")

    def _holds(self) -> bool:
        if self.page.is_behind:
            self.page.end("slow")
        return self._sign_ins.holds(self._sign_in) and self.page.is_open


def register(services: Services, sampler: Sampler, sign_ins: SignIns, open_pages: OpenPages) -> None:
    """Register the pages. One is built in a turn of the event loop, those of each visitor in turns with the others'."""
    building = FairLock()

    @ui.page("/startups/{slug}", response_timeout=BUILT_WITHIN)
    async def startup_of(client: Client, slug: str) -> None:
        visit = Visit(services, sign_ins, open_pages, client)
        async with building.held(visit.principal.startup):
            _show_startup(services, sampler, visit, slug, client)

    @ui.page("/operator", response_timeout=BUILT_WITHIN)
    async def operator(client: Client) -> None:
        visit = Visit(services, sign_ins, open_pages, client)
        async with building.held(visit.principal.startup):
            _show_operator(services, sampler, visit, client)


def _show_operator(services: Services, sampler: Sampler, visit: Visit, client: Client) -> None:
    if not visit.principal.is_operator:
        _turn_away(services, visit, "The page of all startups requires an operator’s token.", client)
        return
    with theme.frame("All startups", "operators’ view", visit.sign_out) as frame:
        OperatorPage(services, sampler, frame, visit.page, visit.is_operator)


def _show_startup(services: Services, sampler: Sampler, visit: Visit, slug: str, client: Client) -> None:
    startup = services.config.by_slug.get(slug)
    if not visit.principal.may_see(slug):
        # Do not reveal whether there is such a startup either.
        _turn_away(services, visit, "A startup’s page requires its own token, or an operator’s.", client)
        return
    if startup is None:
        client.status_code = 404
        dead_ends.not_found(f"There is no startup “{slug}” in the configuration.")
        return
    if not visit.may_see(slug):
        client.status_code = 403
        dead_ends.ended(startup, visit.sign_out)
        return
    config = services.config
    if not config.serves(startup):
        client.status_code = 421
        host = config.hosts_of(startup)[0]
        dead_ends.elsewhere(startup, config.settings.hosts[host].url, visit.sign_out)
        return
    back = ("All startups", "/operator") if visit.principal.is_operator else None
    with theme.frame(startup.name, startup_page.remark(startup), visit.sign_out, back) as frame:
        StartupPage(services, sampler, startup, frame, visit.page, lambda: visit.may_see(slug))


def _turn_away(services: Services, visit: Visit, requirement: str, client: Client) -> None:
    client.status_code = 403
    startup = services.config.by_slug.get(visit.principal.startup or "")
    dead_ends.not_yours(visit.principal, startup.name if startup else "an operator", requirement, visit.sign_out)
