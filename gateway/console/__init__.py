"""Web page: a startup sees its own data live, an operator sees all startups. Requires the extra `console`.

NiceGUI has one application per process: mounting a second time replaces the first, which tests rely on.
"""

from __future__ import annotations

from base64 import b64encode
from importlib import import_module

from fastapi import FastAPI
from nicegui import Client, app, background_tasks, core, ui
from nicegui.client import templates
from nicegui.storage import Storage
from starlette.routing import Match, Mount
from starlette.types import Scope

from gateway.api.services import Services
from gateway.console import pages, sockets, theme
from gateway.console.door import Door, Front
from gateway.console.open_pages import OpenPages
from gateway.console.sampler import Sampler
from gateway.console.sign_ins import SignIns
from gateway.logs import get_logger, place

API = "/v1"
FAVICON = f"data:image/svg+xml;base64,{b64encode(theme.LOGO.encode()).decode()}"
MESSAGES_KEPT = 100
"""Pushes that a browser whose connection broke finds when it is back; after more it loads the page again."""
TABS_KEPT = 60.0
"""Seconds for which NiceGUI keeps its own record of a browser's tab. Nothing is stored in it."""

__all__ = ["mount"]

log = get_logger(__name__)


class _Pages(Mount):
    """NiceGUI at `/`, except for the API's own paths: the API answers unknown ones itself."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        path = scope.get("path", "")
        if path == API or path.startswith(f"{API}/"):
            return Match.NONE, {}
        return super().matches(scope)


def mount(api: FastAPI, services: Services) -> None:
    """Add the pages to the API's application, to be served in the same loop. Blocking.

    The state directory keeps who has signed in.
    """
    _forget_last_mount()
    sign_ins, open_pages = SignIns(services), OpenPages()
    sign_ins.load()
    services.reloaded.append(lambda: _reloaded(sign_ins))
    sampler = Sampler(services.state)
    app.on_startup(sampler.run)
    theme.install()
    _load_early()
    Front(services, sign_ins).install(api)
    sockets.guard(core.sio)
    pages.register(services, sampler, sign_ins, open_pages)
    app.config.socket_io_js_transports = ["websocket"]
    app._exception_handlers[:] = [_failed]
    ui.run_with(
        api,
        title=theme.TITLE,
        favicon=FAVICON,
        dark=None,
        language="en-GB",
        tailwind=False,
        reconnect_timeout=10.0,
        message_history_length=MESSAGES_KEPT,
        gzip_middleware_factory=None,  # it compresses in the event loop, 5 ms for each piece of a script
        show_welcome_message=False,
    )
    # NiceGUI would answer below /v1 too, with a page of its own: replace its mount by one that leaves the API alone.
    routes = api.router.routes
    at_root = next(route for route in routes if isinstance(route, Mount) and route.app is app)
    routes[routes.index(at_root)] = _Pages("", app=Door(app, sign_ins, open_pages))


def _load_early() -> None:
    """Load what the first page would load in the event loop, for 50 ms."""
    templates.get_template("index.html")
    import_module("anyio._backends._asyncio")


def _reloaded(sign_ins: SignIns) -> None:
    sign_ins.check()
    background_tasks.create(sign_ins.save(), name="console-sign-ins")


def _failed(error: Exception) -> None:
    """Log a failure of a page, without its text: what a browser sent may be in it."""
    log.error("the web page failed", problem=type(error).__name__, at=place(error.__traceback__).strip(" ()"))


def _forget_last_mount() -> None:
    app.middleware_stack = None
    app.user_middleware.clear()
    app._startup_handlers.clear()
    Storage.secret = None
    Storage.max_tab_storage_age = TABS_KEPT
    Client.shared_head_html = ""
