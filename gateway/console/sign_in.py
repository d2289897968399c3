"""Sign-in: a startup's token opens its own page, an operator's opens all."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, MutableMapping
from typing import Any

from nicegui import events, ui

from gateway.api.auth import Principal
from gateway.api.services import Services
from gateway.config import Startup
from gateway.console import formatting, sessions, theme
from gateway.console.sessions import Throttle
from gateway.console.theme import Text

WRONG = (
    "Unknown token. Copy it again, completely and without spaces; if it still does not work, ask the operator of the "
    "test bed for a new one."
)
# The token is sent once, with the form, and the server keeps it in no element.
_SEND = "(event) => { emit(event.target.token.value.trim()); event.target.token.select(); }"


class SignIn:
    """Sign-in form."""

    def __init__(self, services: Services, throttle: Throttle, storage: MutableMapping[str, Any], address: str) -> None:
        self._services = services
        self._throttle = throttle
        self._storage = storage
        self._address = address
        with theme.centred("Sign in"):
            self._form()
            Text(
                "p",
                "The operator of the test bed gives each startup a token. It opens the startup’s own page: live "
                "charts, devices, and what was rejected and why.",
                "muted",
            )

    def _form(self) -> None:
        form = theme.box("sign-in-form", "form").on("submit.prevent", self._check, js_handler=_SEND)
        with form:
            Text("label", "Token").props["for"] = "token"
            theme.box("", "input").props(
                "id=token name=token type=password autocomplete=current-password autofocus required "
                "spellcheck=false aria-describedby=problem"
            )
            self._problem = Text("div", "", "sign-in-problem")
            self._problem.props("id=problem role=alert")
            Text("button", "Sign in", "button").props["type"] = "submit"

    def _check(self, event: events.GenericEventArguments) -> None:
        now = time.time()
        if wait := self._throttle.wait(self._address, now):
            seconds = formatting.plural(math.ceil(wait), "second")
            self._problem.set_text(f"Too many wrong tokens from your address. Try again in {seconds}.")
            return
        principal = self._services.tokens.principal(str(event.args))
        if principal is None:
            self._throttle.failed(self._address, now)
            self._problem.set_text(WRONG)
            return
        sessions.sign_in(self._storage, principal, now)
        ui.navigate.to(sessions.home(principal))


def refuse(principal: Principal, name: str, requirement: str, leave: Callable[[], None]) -> None:
    """Refuse a page. `name` has signed in; `requirement` says whose token opens the page."""
    with theme.centred("This page is not yours"):
        Text("p", f"You are signed in as {name}. {requirement}")
        theme.link("Go to your page", sessions.home(principal), "button")
        Text("button", "Sign in with another token", "quiet").on("click", leave)


def ended(startup: Startup, leave: Callable[[], None]) -> None:
    """Show that the programme of a startup has ended."""
    with theme.centred("The programme has ended"):
        day = f" on {formatting.day(startup.until)}" if startup.until else ""
        Text("p", f"The programme of {startup.name} ended{day}. Ask the operators of the test bed for its data.")
        Text("button", "Sign in with another token", "quiet").on("click", leave)


def not_found(what: str) -> None:
    """Show that there is nothing at this address."""
    with theme.centred("Page not found"):
        Text("p", what)
        theme.link("Go to your page", "/", "button")
