"""amqtt, the embedded broker of the demo, in the test's own process and loop."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from amqtt.broker import Broker

from tests.servers.processes import LOOPBACK, free_port

# The base class lets everybody in. AnonymousAuthPlugin would too, but marks each session as anonymous,
# and amqtt keeps neither the subscriptions nor the messages of an anonymous session (amqtt 0.12.1).
OPEN: Mapping[str, Mapping[str, Any]] = {"amqtt.plugins.base.BaseAuthPlugin": {}}


class AmqttBroker:
    """`async with AmqttBroker() as broker: ... broker.url`; MQTT 3.1.1 only.

    `plugins` maps an amqtt plugin's dotted path to its options; by default everybody may do everything,
    and no $SYS topics are published. A restart keeps the port and forgets every session: amqtt holds
    them in memory.
    """

    def __init__(self, *, plugins: Mapping[str, Mapping[str, Any]] = OPEN) -> None:
        self.host = LOOPBACK
        self.port = free_port()
        self._plugins = plugins
        self._broker: Any = None

    @property
    def url(self) -> str:
        """Where it listens: scheme, host and port, no slash at the end."""
        return f"mqtt://{self.host}:{self.port}"

    async def start(self) -> None:
        """Listen; amqtt's BrokerError when the port is taken."""
        logging.getLogger("amqtt").setLevel(logging.ERROR)
        logging.getLogger("transitions").setLevel(logging.ERROR)
        self._broker = Broker(
            {
                "listeners": {"default": {"type": "tcp", "bind": f"{self.host}:{self.port}"}},
                "plugins": {path: dict(options) for path, options in self._plugins.items()},
            }
        )
        await self._broker.start()

    async def stop(self) -> None:
        """Close every connection and stop listening; nothing to do when it is down."""
        broker, self._broker = self._broker, None
        if broker is not None:
            await broker.shutdown()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
