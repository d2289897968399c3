"""What the HTTP API and the web page stand on. `gateway.app` puts it together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gateway.config import Config
from gateway.database import Database
from gateway.dead_letters import DeadLetter
from gateway.feeds.auth import Tokens
from gateway.feeds.health import Health
from gateway.feeds.live import Live
from gateway.metrics import Metrics
from gateway.pipeline import Outcome
from gateway.registry import Registry
from gateway.stores.contract import Store


@dataclass(slots=True)
class Services:
    """The parts, by name. `replay` puts a dead letter through again; `health` looks at the running parts. A reload puts
    another `config` and other `tokens` here."""

    config: Config
    tokens: Tokens
    store: Store
    live: Live
    registry: Registry
    database: Database
    metrics: Metrics
    health: Callable[[], Health]
    replay: Callable[[DeadLetter], Awaitable[Outcome]]
