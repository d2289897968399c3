"""The HTTP API and the web page, composed over the services that they use."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from fastapi import FastAPI

from gateway.api.edge import Edge
from gateway.api.routes import create_api
from gateway.api.services import Services
from gateway.logs import get_logger
from gateway.state import private_files

log = get_logger(__name__)


def make_application(services: Services) -> Edge:
    """Return the application, ready to serve. Reads and writes the state directory."""
    api = create_api(services)
    if services.config.settings.http.console:
        _mount_console(api, services, _storage_secret(services.config.state_dir / "console.secret"))
    return Edge(api, services)


def _mount_console(api: FastAPI, services: Services, storage_secret: str) -> None:
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
    console.mount(api, services, storage_secret)


def _storage_secret(path: Path) -> str:
    """Return the key that signs the web page's cookies: made once, kept where only the gateway's user can read it."""
    if not path.exists():
        private_files.make_directory(path.parent)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32))
    return path.read_text()
