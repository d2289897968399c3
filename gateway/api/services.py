"""What the HTTP API and the web page stand on: one process, or a supervisor with its workers. Composed in
`gateway.runtime`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from prometheus_client.core import Metric

from gateway.api.auth import Tokens
from gateway.config import Config
from gateway.feeds.live_ring import LiveFeeds
from gateway.health import Health
from gateway.model import Reason
from gateway.state.devices import Device
from gateway.state.reader import StateReader
from gateway.stores.contract import Store


@dataclass(slots=True, kw_only=True)
class Services:
    """The parts, by name. A reload puts another `config` and other `tokens` here.

    `devices` gives those of a startup, `health` looks at the running parts, `measured` gives what Prometheus wants.
    `replay` puts a dead letter through again, by its id, and gives the reasons against it: none where it was accepted.
    It raises `ReplayRefused`.
    """

    config: Config
    tokens: Tokens
    store: Store
    live: LiveFeeds
    state: StateReader
    devices: Callable[[str], list[Device]]
    health: Callable[[], Health]
    measured: Callable[[], Awaitable[Sequence[Metric]]]
    replay: Callable[[int], Awaitable[Sequence[Reason]]]
