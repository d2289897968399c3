"""The HTTP API and the web page, composed over the services that they use."""

from __future__ import annotations

from fastapi import FastAPI

from gateway.api.edge import Edge
from gateway.api.routes import create_api
from gateway.api.services import Services
from gateway.logs import get_logger

log = get_logger(__name__)


def make_application(services: Services) -> Edge:
    """Return the application, ready to serve. Reads and writes the state directory."""
    api = create_api(services)
    if services.config.settings.http.console:
        _mount_console(api, services)
    return Edge(api, services)


def _mount_console(api: FastAPI, services: Services) -> None:
    """Add the web page, where its extra is installed."""
    try:
        from gateway import console
    except ImportError as error:
        log.warning(
            "no web page",
            problem=f"{error.name} is not installed",
            next="pip install 'testbed-gateway[console]', or set http.console: false",
        )
        return
    console.mount(api, services)
