"""Services over a state directory, for tests of single routes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from gateway.api.auth import Tokens
from gateway.api.edge import Edge
from gateway.api.routes import create_api
from gateway.api.services import Services
from gateway.feeds.live_ring import LiveFeeds
from gateway.health import Health
from gateway.state.reader import StateReader
from gateway.stores.contract import Store
from tests.builders import config, startup

TOKENS = {"acme": "acme-token", "birch": "birch-token"}


async def _not_asked(*_arguments: object) -> Any:
    raise NotImplementedError


def services(state_dir: Path, store: Store | None = None, **others: Any) -> Services:
    """Make services of two startups, acme and birch."""
    return Services(
        **{
            "config": config(*(startup(slug) for slug in TOKENS)),
            "tokens": Tokens(TOKENS, "operator-token"),
            "store": store,
            "live": LiveFeeds(100),
            "state": StateReader(state_dir),
            "devices": lambda _startup: [],
            "health": lambda: Health((), {}),
            "measured": _not_asked,
            "replay": _not_asked,
            "forget_type": _not_asked,
            "release": _not_asked,
            **others,
        }
    )


@asynccontextmanager
async def client(of: Services, token: str = "acme-token") -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of the HTTP API."""
    transport = httpx.ASGITransport(Edge(create_api(of), of))
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as made:
        yield made
