"""Whatever one startup does, the others notice nothing: at the broker's queue and at the gateway's quota."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.running import NO_LIMITS, climate, running, write_config
from tests.servers import Mosquitto, eventually
from tests.servers.mqtt_clients import connect

NEIGHBOUR = 50
SMALL_QUEUES = "max_queued_messages 100\n"


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Mosquitto]:
    async with Mosquitto(tmp_path / "mosquitto", conf=SMALL_QUEUES) as one:
        yield one


async def publish(broker: Mosquitto, slug: str, count: int, payload: bytes = b"") -> None:
    """Publish readings of one startup with QoS 1, each with a time of its own."""
    base_ms = time.time_ns() // 1_000_000 - 60_000
    async with connect(broker) as client:
        for i in range(count):
            await client.publish(f"testbed/{slug}/d1/climate", payload or climate(20, base_ms + i, i), qos=1)


@pytest.mark.parametrize("sessions", ["startup", "one"])
async def test_a_queue_that_overflows_is_that_of_its_startup(broker: Mosquitto, tmp_path: Path, sessions: str) -> None:
    """While the gateway is away one startup fills its queue at the broker, and another's messages all arrive. With one
    session for all, the control, the broker drops them."""
    config = write_config(tmp_path / "config", broker.url, mqtt={"url": broker.url, "sessions": sessions})
    async with running(config):
        pass
    await publish(broker, "acme", 500)
    await publish(broker, "voltwise", NEIGHBOUR)
    async with running(config) as gateway:
        assert (await gateway.stored(100)).accepted >= 100
        if sessions == "startup":
            assert (await gateway.stored(NEIGHBOUR, "voltwise")).accepted == NEIGHBOUR
        else:
            await publish(broker, "acme", 1)  # what the broker held has come when this has
            await gateway.stored(101)
            assert (await gateway.counts("voltwise")).received == 0


def set_quota(config: Path, slug: str, **quota: object) -> None:
    path = config / "startups" / f"{slug}.yaml"
    yaml = YAML()
    loaded = yaml.load(path)
    loaded["quota"] = {**NO_LIMITS, **quota}
    yaml.dump(loaded, path)


async def test_messages_over_quota_wait_at_the_broker(tmp_path: Path) -> None:
    """Messages over quota are neither lost nor rejected while they can wait: they come later, and another startup's
    come meanwhile."""
    async with Mosquitto(tmp_path / "mosquitto", conf="max_queued_messages 0\n") as broker:
        config = write_config(tmp_path / "config", broker.url)
        set_quota(config, "acme", messages="100/s", burst=200)
        async with running(config) as gateway:
            await publish(broker, "acme", 500)
            await publish(broker, "voltwise", NEIGHBOUR)
            await gateway.stored(NEIGHBOUR, "voltwise")
            counts = await gateway.stored(500)
    assert (counts.accepted, counts.rejected) == (500, 0)


async def test_flood_is_rejected_at_next_to_no_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stays over quota is rejected: each message counts in the ledger, and one in many is kept and reported."""
    monkeypatch.setattr("gateway.ingest.quota.PATIENCE", 0.1)
    async with Mosquitto(tmp_path / "mosquitto", conf="max_queued_messages 0\n") as broker:
        config = write_config(tmp_path / "config", broker.url)
        set_quota(config, "acme", messages="1/m", burst=100, backlog="0s")
        async with connect(broker) as device, running(config) as gateway:
            await device.subscribe("feedback/acme/d1", qos=1)
            await publish(broker, "acme", 2000)

            async def all_counted() -> bool:
                return (await gateway.counts()).received >= 2000

            await eventually(all_counted, says="every message is counted")
            counts = await gateway.counts()
            assert (counts.accepted, counts.balanced) == (100, True)
            feedback = [str((await anext(device.messages)).payload) for _ in range(2)]
            assert all("over_quota" in one for one in feedback)
            async with gateway.client("acme-token") as client:
                answer = (await client.get("/v1/startups/acme/rejections?limit=1000")).json()
            assert 2 <= len(answer["rejections"]) < 50


async def test_removed_startup_leaves_no_session(tmp_path: Path) -> None:
    """When a startup is removed while the gateway is away, its session brings what the broker holds, and then it no
    longer gets anything."""
    async with Mosquitto(tmp_path / "mosquitto", conf="max_queued_messages 0\n") as broker:
        config = write_config(tmp_path / "config", broker.url)
        async with running(config):
            pass
        await publish(broker, "acme", 10)
        (config / "startups" / "acme.yaml").unlink()
        async with running(config) as gateway:
            sessions = gateway.gateway.engine.sessions
            await eventually(lambda: not sessions.is_retiring, says="the session has ended")
            assert sorted(sessions.filters()) == ["voltwise"]
            assert (await gateway.counts("_unrouted")).received >= 10
