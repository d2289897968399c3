"""Services that the HTTP API and the web page use: of one process, or of a supervisor with its workers.

They are composed in `gateway.runtime`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from prometheus_client.core import Metric

from gateway.api.auth import Tokens
from gateway.api.guesses import Guesses
from gateway.api.limits import Limits
from gateway.config import Config
from gateway.feeds.live_ring import LiveFeeds
from gateway.health import Health
from gateway.model import UNROUTED, Reason
from gateway.state.devices import Device
from gateway.state.reader import StateReader
from gateway.stores.contract import Store


@dataclass(slots=True, kw_only=True)
class Services:
    """Services, by name. A reload replaces `config` and `tokens`, and calls `reloaded`.

    `devices` returns those of a startup, `health` checks the running parts, `measured` returns metrics for Prometheus.
    `replay` processes a dead letter again, by its id, and returns the reasons against it: none if it was accepted. It
    raises `ReplayImpossible`. `release` lets the lane of a startup go on, and returns whether it had stopped.
    `forget_type` forgets the type of a field, or of all fields of a measurement if the name is empty, and returns how
    many. `guesses` counts wrong tokens, wherever they are given. `limits` bound what one startup's requests may take.
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
    forget_type: Callable[[str, str, str], Awaitable[int]]
    release: Callable[[str], Awaitable[bool]]
    limits: Limits = field(default_factory=Limits)
    guesses: Guesses = field(default_factory=Guesses)
    reloaded: list[Callable[[], None]] = field(default_factory=list)

    def use(self, config: Config, tokens: Tokens) -> None:
        """Take over a changed configuration."""
        self.config, self.tokens = config, tokens
        self.live.keep_only({*config.by_slug, UNROUTED})
        for callback in self.reloaded:
            callback()
