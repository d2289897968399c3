"""What the HTTP API and the web page stand on: one process, or a front with workers behind it. Put together by
`gateway.app` and by `gateway.workers.front`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from prometheus_client.core import Metric

from gateway.books import Books
from gateway.config import Config
from gateway.feeds.auth import Tokens
from gateway.feeds.health import Health
from gateway.feeds.live import Live
from gateway.model import Reason
from gateway.registry import Device
from gateway.stores.contract import Store


@dataclass(slots=True)
class Services:
    """The parts, by name. A reload puts another `config` and other `tokens` here.

    `devices` gives those of a startup, `health` looks at the running parts, `measured` gives what Prometheus wants.
    `replay` puts a dead letter through again, by its id, and gives the reasons against it: none where it was accepted.
    It raises `Unreplayable`.
    """

    config: Config
    tokens: Tokens
    store: Store
    live: Live
    books: Books
    devices: Callable[[str], list[Device]]
    health: Callable[[], Health]
    measured: Callable[[], Awaitable[Sequence[Metric]]]
    replay: Callable[[int], Awaitable[Sequence[Reason]]]
