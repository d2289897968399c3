"""Connections to the broker: storms of an account that may connect."""

from __future__ import annotations

from collections.abc import AsyncIterator

from tests.attack import messages
from tests.attack.bed import Bed
from tests.attack.layout import ATTACKER, DEVICES
from tests.attack.scenario import attack

USERS = [f"{ATTACKER}.{device}" for device in DEVICES]


@attack("subscribe and unsubscribe, at line rate from eight devices")
async def subscribe_storm(bed: Bed) -> AsyncIterator[None]:
    blocks = [messages.subscriptions(f"feedback/{ATTACKER}/{device}") for device in DEVICES]
    async with bed.mqtt(blocks, users=USERS, what="subscriptions"):
        yield


@attack("connect and disconnect, as fast as the broker accepts eight devices")
async def connect_storm(bed: Bed) -> AsyncIterator[None]:
    async with bed.mqtt([], users=USERS, what="connections", hang_up=True):
        yield
