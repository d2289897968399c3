"""Services without a gateway behind them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.api.auth import Tokens
from gateway.api.services import Services
from gateway.config import load
from gateway.feeds.live_ring import LiveFeeds
from gateway.health import Health
from gateway.state.reader import StateReader
from gateway.stores.sqlite import SqliteStore


async def _not_asked(*_arguments: object) -> Any:
    raise NotImplementedError


@pytest.fixture
def services(tmp_path: Path) -> Services:
    """Services of the sample configuration."""
    config = load(Path(__file__).parents[3] / "config")
    settings = config.settings.model_copy(update={"state_dir": tmp_path})
    return Services(
        config=config.model_copy(update={"settings": settings}),
        tokens=Tokens({"acme": "acme-token", "voltwise": "voltwise-token"}, "operator-token"),
        store=SqliteStore(tmp_path / "store"),
        live=LiveFeeds(100),
        state=StateReader(tmp_path),
        devices=lambda _startup: [],
        health=lambda: Health((), {}),
        measured=_not_asked,
        replay=_not_asked,
        forget_type=_not_asked,
        release=_not_asked,
    )
