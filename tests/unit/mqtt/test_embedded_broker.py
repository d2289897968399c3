"""The embedded broker's port; tests/contract has what it does with messages."""

from __future__ import annotations

import socket

import pytest
from amqtt.errors import BrokerError

from gateway.mqtt.embedded_broker import LOOPBACK, EmbeddedBroker


async def test_port_that_is_taken_after_the_probe_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker listens on another free port, and keeps that one over a restart."""
    with socket.create_server((LOOPBACK, 0)) as rival:
        probes = [rival.dup(), socket.create_server((LOOPBACK, 0))]
        monkeypatch.setattr(socket, "create_server", lambda _address: probes.pop(0))
        broker = EmbeddedBroker()
        await broker.start()
        port = broker.port
        await broker.stop()
        assert port not in (0, rival.getsockname()[1])
        async with broker:
            assert broker.port == port
        assert probes == []


async def test_chosen_port_that_is_taken_is_an_error() -> None:
    """Where the port was chosen, the broker takes no other."""
    with socket.create_server((LOOPBACK, 0)) as rival:
        broker = EmbeddedBroker(rival.getsockname()[1])
        with pytest.raises(BrokerError):
            await broker.start()
