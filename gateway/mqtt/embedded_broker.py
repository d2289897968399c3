"""The embedded broker of the demo: amqtt, in this process. For a first look and for tests, on loopback.

MQTT 3.1.1 only, a few thousand messages a second, everything in memory: production uses Mosquitto or a cluster.
Without a plugin that marks sessions as anonymous amqtt keeps their queues; it forgets those of anonymous ones.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from types import TracebackType
from typing import Any, Self

from amqtt.broker import Broker
from amqtt.errors import BrokerError

LOOPBACK = "127.0.0.1"
CLOSE_WITHIN = 20.0
"""Seconds that closing may take. It is for a shutdown that hangs: on a busy machine one takes several seconds."""
ATTEMPTS = 10
"""Free ports that are tried: amqtt binds by number, so that somebody else may take one between the probe and that."""


class EmbeddedBroker:
    """`async with EmbeddedBroker() as broker: … broker.url`. Anybody on this machine may do anything."""

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self._broker: Any = None

    @property
    def url(self) -> str:
        return f"mqtt://{LOOPBACK}:{self.port}"

    async def start(self) -> None:
        """Listen; without a port, on a free one, which stays the same over a restart.

        Raises:
            amqtt.errors.BrokerError: the port is taken.
        """
        for noisy in ("amqtt", "transitions"):
            logging.getLogger(noisy).setLevel(logging.CRITICAL)
        chosen = self.port
        for left in reversed(range(1 if chosen else ATTEMPTS)):
            self.port = chosen or _free_port()
            try:
                self._broker = await _listen(self.port)
            except BrokerError:
                if not left:
                    raise
            else:
                return

    async def stop(self) -> None:
        """Close every connection and stop listening, within a bound: under load amqtt's own shutdown may hang."""
        broker, self._broker = self._broker, None
        if broker is None:
            return
        closing = asyncio.ensure_future(broker.shutdown())
        await asyncio.wait((closing,), timeout=CLOSE_WITHIN)
        if not closing.done():
            closing.cancel()
            await asyncio.wait((closing,), timeout=CLOSE_WITHIN)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.stop()


async def _listen(port: int) -> Broker:
    broker = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"{LOOPBACK}:{port}"}},
            "plugins": {"amqtt.plugins.base.BaseAuthPlugin": {}},
        }
    )
    await broker.start()
    return broker


def _free_port() -> int:
    with socket.create_server((LOOPBACK, 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
