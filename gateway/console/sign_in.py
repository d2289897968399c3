"""The way in: a token opens the page of its startup, an operator's opens all."""

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
    "This token is not known here. Copy it again, whole and without spaces; if it still does not work, ask the "
    "operator of the test bed for a new one."
)
# The token travels once, when the form is sent, and the server keeps it in no element.
_SEND = "(event) => { emit(event.target.token.value.trim()); event.target.token.select(); }"


class SignIn:
    """The form."""

    def __init__(self, services: Services, throttle: Throttle, storage: MutableMapping[str, Any], address: str) -> None:
        self._services = services
        self._throttle = throttle
        self._storage = storage
        self._address = address
        with theme.door("Sign in"):
            self._form()
            Text(
                "p",
                "The operator of the test bed hands out a token to each startup. It opens the startup’s own "
                "page: live charts, devices, and what was rejected and why.",
                "muted",
            )

    def _form(self) -> None:
        form = theme.box("door-form", "form").on("submit.prevent", self._check, js_handler=_SEND)
        with form:
            Text("label", "Token").props["for"] = "token"
            theme.box("", "input").props(
                "id=token name=token type=password autocomplete=current-password autofocus required "
                "spellcheck=false aria-describedby=problem"
            )
            self._problem = Text("div", "", "door-problem")
            self._problem.props("id=problem role=alert")
            Text("button", "Sign in", "button").props["type"] = "submit"

    def _check(self, event: events.GenericEventArguments) -> None:
        now = time.time()
        if wait := self._throttle.wait(self._address, now):
            seconds = formatting.plural(math.ceil(wait), "second")
            self._problem.set_text(f"Too many wrong tokens came from your address. Try again in {seconds}.")
            return
        principal = self._services.tokens.principal(str(event.args))
        if principal is None:
            self._throttle.failed(self._address, now)
            self._problem.set_text(WRONG)
            return
        sessions.sign_in(self._storage, principal, now)
        ui.navigate.to(sessions.home(principal))


def refuse(principal: Principal, name: str, told: str, leave: Callable[[], None]) -> None:
    """The page of somebody else. `name` is who has signed in, `told` what this page opens with."""
    with theme.door("This page is not yours"):
        Text("p", f"You have signed in as {name}. {told}")
        theme.link("Go to your page", sessions.home(principal), "button")
        Text("button", "Sign in with another token", "quiet").on("click", leave)


def ended(startup: Startup, leave: Callable[[], None]) -> None:
    """The page of a startup whose programme is over."""
    with theme.door("The programme is over"):
        day = f" on {formatting.day(startup.until)}" if startup.until else ""
        Text("p", f"The programme of {startup.name} ended{day}. Ask the operators of the test bed for its data.")
        Text("button", "Sign in with another token", "quiet").on("click", leave)


def not_found(what: str) -> None:
    """There is nothing at this address."""
    with theme.door("There is no such page"):
        Text("p", what)
        theme.link("Go to your page", "/", "button")
