"""Pages that show nothing of a startup, and say why."""

from __future__ import annotations

from collections.abc import Callable

from gateway.api.auth import Principal
from gateway.config import Startup
from gateway.console import formatting, theme
from gateway.console.sign_ins import home
from gateway.console.theme import Text


def not_yours(principal: Principal, name: str, requirement: str, leave: Callable[[], None]) -> None:
    """Show that a page is somebody else's. `name` has signed in; `requirement` says whose token opens the page."""
    with theme.centred("This page is not yours"):
        Text("p", f"You are signed in as {name}. {requirement}")
        theme.link("Go to your page", home(principal), "button")
        Text("button", "Sign in with another token", "quiet").on("click", leave)


def ended(startup: Startup, leave: Callable[[], None]) -> None:
    """Show that the programme of a startup has ended."""
    with theme.centred("The programme has ended"):
        day = f" on {formatting.day(startup.until)}" if startup.until else ""
        Text("p", f"The programme of {startup.name} ended{day}. Ask the operators of the test bed for its data.")
        Text("button", "Sign in with another token", "quiet").on("click", leave)


def elsewhere(startup: Startup, url: str, leave: Callable[[], None]) -> None:
    """Show where the startup's page is: on another host."""
    with theme.centred("This page is on another host"):
        Text("p", f"The data of {startup.name} is there. Sign in there with the same token.")
        theme.link("Go there", url, "button")
        Text("button", "Sign in with another token", "quiet").on("click", leave)


def not_found(what: str) -> None:
    """Show that there is nothing at this address."""
    with theme.centred("Page not found"):
        Text("p", what)
        theme.link("Go to your page", "/", "button")
