"""Web page: a startup sees its own data live, an operator sees all startups. Requires the extra `console`.

NiceGUI has one application per process: mounting a second time replaces the first, which tests rely on.
"""

from __future__ import annotations

import time

from fastapi import FastAPI
from nicegui import Client, app, ui
from nicegui.storage import Storage
from starlette.routing import Match, Mount
from starlette.types import Scope

from gateway.api.services import Services
from gateway.console import pages, sessions, theme
from gateway.console.sampler import Sampler

SESSIONS = "console"
API = "/v1"
FAVICON = theme.LOGO

__all__ = ["mount"]


class _Pages(Mount):
    """NiceGUI at `/`, except for the API's own paths: the API answers unknown ones itself."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        path = scope.get("path", "")
        if path == API or path.startswith(f"{API}/"):
            return Match.NONE, {}
        return super().matches(scope)


def mount(api: FastAPI, services: Services, storage_secret: str) -> None:
    """Add the pages to the API's application, to be served in the same loop.

    `storage_secret` signs the cookies; the state directory keeps who has signed in.
    """
    _forget_last_mount()
    Storage.path = services.config.state_dir / SESSIONS
    sessions.forget_old(Storage.path, time.time())
    sampler = Sampler(services.state)
    app.on_startup(sampler.run)
    theme.install()
    pages.register(services, sampler)
    ui.run_with(
        api,
        title=theme.TITLE,
        favicon=FAVICON,
        dark=None,
        language="en-GB",
        tailwind=False,
        storage_secret=storage_secret,
        reconnect_timeout=10.0,
        show_welcome_message=False,
        session_middleware_kwargs={
            "session_cookie": "testbed_console",
            "max_age": int(sessions.MAX_AGE),
            "https_only": services.config.settings.http.cert_file is not None,
        },
    )
    # NiceGUI would answer below /v1 too, with a page of its own: replace its mount by one that leaves the API alone.
    routes = api.router.routes
    at_root = next(route for route in routes if isinstance(route, Mount) and route.app is app)
    routes[routes.index(at_root)] = _Pages("", app=app)


def _forget_last_mount() -> None:
    app.middleware_stack = None
    app.user_middleware.clear()
    app._startup_handlers.clear()
    Client.shared_head_html = ""
