"""Sequence numbers of devices, through a real broker: what is missing, and where each message is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiomqtt

from tests.running import Running, climate, running
from tests.servers import eventually

NOW_MS = 1_795_000_000_000
TOPIC = "testbed/acme/th-1/climate"
BASE = "/v1/startups/acme/devices/th-1/sequences"


async def get(gateway: Running, path: str) -> dict[str, Any]:
    async with gateway.client("acme-token") as client:
        answer = await client.get(path)
    body: dict[str, Any] = answer.json()
    assert answer.status_code == 200, body
    return body


async def where(gateway: Running, number: int) -> str:
    found: str = (await get(gateway, f"{BASE}/climate/{number}"))["where"]
    return found


async def send(
    device: aiomqtt.Client, numbers: range, *, t: float = 21.0, without: frozenset[int] = frozenset()
) -> None:
    """Publish numbered messages, without those that a lossy hop before the broker drops."""
    for number in numbers:
        if number not in without:
            await device.publish(TOPIC, climate(t, NOW_MS + number, number), qos=1)


async def test_a_lossy_hop_is_found(config: Path, device: aiomqtt.Client) -> None:
    """Messages that a hop before the broker drops are missing, as many as it dropped; what was rejected, what is stored
    and what has not been sent yet are not. A restart of the gateway changes nothing."""
    lost = frozenset({3, 4, 9})
    async with running(config) as gateway:
        await send(device, range(1, 12), without=lost)
        await send(device, range(12, 13), t=900)
        await gateway.stored(8)

        async def is_rejected() -> bool:
            return (await gateway.counts()).rejected == 1

        await eventually(is_rejected, says="a message is rejected")
        assert [await where(gateway, number) for number in (1, 3, 12, 13)] == [
            "stored",
            "missing",
            "rejected",
            "not yet",
        ]
    async with running(config) as gateway:
        await send(device, range(13, 16))
        await gateway.stored(11)
        climates = (await get(gateway, BASE))["sequences"]["climate"]
        assert climates == {
            "last": 15,
            "received": 12,
            "rejected": 1,
            "missing": len(lost),
            "gaps": [[3, 4], [9, 9]],
            "repeated": 0,
            "late": 0,
            "restarts": 0,
        }
        assert await where(gateway, 15) == "stored"
