"""Advice of a session whose connections are lost again and again."""

from __future__ import annotations

import asyncio

from gateway.errors import BrokerUnreachable
from gateway.mqtt.broker import Broker
from gateway.mqtt.link import OFTEN, BrokerLink


def test_short_connections_are_explained() -> None:
    """Not every broker says that another client took a session over: after a few short connections the advice does."""
    link = BrokerLink(Broker("broker", 1883), "5", asyncio.Semaphore(), "gw.acme")
    said = []
    for _ in range(OFTEN):
        link.greeted()
        link.connected()
        link.failed(BrokerUnreachable("the connection was lost"))
        said.append("has another host read a newer configuration?" in link.state.problem)
    assert said == [False] * (OFTEN - 1) + [True]
