"""Odd messages of a broker that checks nothing, through a whole gateway: each becomes a dead letter, and none disturbs
the readings around it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.running import climate, running, write_config
from tests.servers import eventually
from tests.unit.mqtt.raw_broker import RawBroker

CLIENT = "testbed-gateway"
TOPICS = [
    b"testbed/acme/\xff/climate",
    b"testbed/acme/\0/climate",
    b"testbed/acme/+/climate",
    b"testbed/acme/\x1b[2J/climate",
    b"testbed/acme/" + b"\xff" * 60_000,
    *(OF_NOBODY := [b"testbed/\xff/d/climate", b""]),
]
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # mqtt5 panics, see there


@pytest.mark.parametrize(("version", "protocol"), [(5, "5"), (4, "3.1.1")])
async def test_odd_messages_become_dead_letters(tmp_path: Path, version: int, protocol: str) -> None:
    """Odd topics and a payload of 3 MiB are rejected and acknowledged once, and can be read over HTTP; the readings
    before and after them are stored."""
    now_ms = time.time_ns() // 1_000_000
    async with RawBroker(version) as broker:
        mqtt = {"url": broker.url, "protocol": protocol, "sessions": "one", "client_id": CLIENT}
        async with running(write_config(tmp_path / "config", broker.url, mqtt=mqtt)) as gateway:
            good = [broker.message(i, b"testbed/acme/d/climate", climate(20, now_ms - i, i)) for i in (1, 2)]
            odd = [broker.message(10 + i, topic) for i, topic in enumerate(TOPICS)]
            large = broker.message(20, b"testbed/acme/d/climate", bytes(3 << 20))
            broker.send(b"".join([good[0], *odd, large, good[1]]), to=CLIENT)
            ids = {1, 2, 20, *range(10, 10 + len(TOPICS))}
            await eventually(lambda: set(broker.acknowledged) == ids, says="all are acknowledged")
            assert len(broker.acknowledged) == len(ids)
            assert (await gateway.stored(2)).accepted == 2
            async with gateway.client() as client:
                found = (await client.get("/v1/startups/acme/rejections")).json()["rejections"]
            assert len(found) == len(TOPICS) - len(OF_NOBODY) + 1
            assert (await gateway.counts("_unrouted")).rejected == len(OF_NOBODY)
            (too_large,) = [one for one in found if one["reasons"][0]["code"] == "too_large"]
            assert too_large["bytes"] == 3 << 20
