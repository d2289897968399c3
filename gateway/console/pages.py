"""Console's addresses, and who may see what."""

from __future__ import annotations

import time
from collections.abc import MutableMapping
from typing import Any

from fastapi import Response
from fastapi.responses import RedirectResponse
from nicegui import Client, app, ui

from gateway.api.auth import Principal
from gateway.api.services import Services
from gateway.console import sessions, sign_in, startup_page, theme
from gateway.console.operator_page import OperatorPage
from gateway.console.sampler import Sampler
from gateway.console.sessions import Throttle
from gateway.console.sign_in import SignIn
from gateway.console.startup_page import StartupPage

Storage = MutableMapping[str, Any]


class Visit:
    """A visit to a page, with the storage of the browser's session."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self.storage: Storage = app.storage.user

    @property
    def principal(self) -> Principal | None:
        return sessions.principal(self.storage, self._services.config, time.time())

    def may_see(self, startup: str) -> bool:
        found, principal = self._services.config.by_slug.get(startup), self.principal
        if found is None or principal is None or not principal.may_see(startup):
            return False
        return principal.is_operator or not found.has_ended(time.time_ns())

    def is_operator(self) -> bool:
        return self.principal is not None and self.principal.is_operator

    def sign_out(self) -> None:
        sessions.sign_out(self.storage)
        ui.navigate.to("/")


def register(services: Services, sampler: Sampler) -> None:
    """Register the pages."""
    throttle = Throttle()

    @ui.page("/")
    def sign_in_page(client: Client) -> Response | None:
        visit = Visit(services)
        if visit.principal is not None:
            return RedirectResponse(sessions.home(visit.principal), status_code=303)
        SignIn(services, throttle, visit.storage, client.ip)
        return None

    @ui.page("/startups/{slug}")
    def startup_of(client: Client, slug: str) -> Response | None:
        visit = Visit(services)
        if visit.principal is None:
            return RedirectResponse("/", status_code=303)
        _show_startup(services, sampler, visit, visit.principal, slug, client)
        return None

    @ui.page("/operator")
    def operator(client: Client) -> Response | None:
        visit = Visit(services)
        if visit.principal is None:
            return RedirectResponse("/", status_code=303)
        if not visit.principal.is_operator:
            _refuse(services, visit, visit.principal, "The page of all startups requires an operator’s token.", client)
            return None
        with theme.frame("All startups", "operators’ view", visit.sign_out) as frame:
            OperatorPage(services, sampler, frame, visit.is_operator)
        return None


def _show_startup(
    services: Services, sampler: Sampler, visit: Visit, principal: Principal, slug: str, client: Client
) -> None:
    startup = services.config.by_slug.get(slug)
    if not principal.may_see(slug):
        # Do not reveal whether there is such a startup either.
        _refuse(services, visit, principal, "A startup’s page requires its own token, or an operator’s.", client)
        return
    if startup is None:
        client.status_code = 404
        sign_in.not_found(f"There is no startup “{slug}” in the configuration.")
        return
    if not visit.may_see(slug):
        client.status_code = 403
        sign_in.ended(startup, visit.sign_out)
        return
    back = ("All startups", "/operator") if principal.is_operator else None
    with theme.frame(startup.name, startup_page.remark(startup), visit.sign_out, back) as frame:
        StartupPage(services, sampler, startup, frame, lambda: visit.may_see(slug))


def _refuse(services: Services, visit: Visit, principal: Principal, requirement: str, client: Client) -> None:
    client.status_code = 403
    startup = services.config.by_slug.get(principal.startup or "")
    sign_in.refuse(principal, startup.name if startup else "an operator", requirement, visit.sign_out)
