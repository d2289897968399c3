"""A gateway whose state is removed while it runs, and gateways that would share one. Real Mosquitto, real processes."""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path

import pytest

from gateway.errors import StateUnavailable
from tests.running import GatewayProcess, Running, climate, running
from tests.servers import Mosquitto, eventually
from tests.servers.mqtt_clients import connect


async def publish(broker: Mosquitto, count: int) -> None:
    async with connect(broker) as device:
        for number in range(count):
            now_ms = time.time_ns() // 1_000_000
            await device.publish("testbed/acme/th-1/climate", climate(20, now_ms - number), qos=1)


async def test_whatever_is_deleted_lets_no_second_gateway_in(gateway: Running, config: Path) -> None:
    """No file in the state directory is what keeps others out."""
    state = config.parent / "state"
    for path in state.iterdir():
        if path.is_dir():
            await asyncio.to_thread(shutil.rmtree, path)
        elif not path.name.startswith("gateway.db"):
            path.unlink()
    with pytest.raises(StateUnavailable, match="another gateway is running"):
        async with running(config):
            pass


async def test_several_workers_do_not_start_beside_one_process(gateway: Running, config: Path) -> None:
    """A supervisor ends at once where a gateway of one process has the state directory."""
    second = GatewayProcess(config)
    await second.start("--workers", "2")
    try:
        assert await second.ended() == 1
    finally:
        await second.end()
    assert "another gateway is running" in second.log


async def test_one_process_does_not_start_beside_several_workers(config: Path) -> None:
    """A gateway of one process ends at once where a supervisor has the state directory."""
    first = GatewayProcess(config)
    await first.start("--workers", "2")
    try:
        await first.worker(1)
        with pytest.raises(StateUnavailable, match="another gateway is running"):
            async with running(config):
                pass
    finally:
        await first.end()


@pytest.mark.parametrize("what", ["", "gateway.db", "gateway.db-wal"], ids=["directory", "database", "log"])
async def test_a_gateway_whose_state_is_removed_ends_and_loses_nothing(
    broker: Mosquitto, config: Path, what: str
) -> None:
    """It stops acknowledging, stores and saves what it has, ends with status 1 and says why; the next one goes on with
    the whole ledger, and stores what was published meanwhile."""
    removed = config.parent / "state" / what
    async with GatewayProcess(config) as first:
        await eventually(lambda: "broker connected" in first.log, says="the gateway has its sessions")
        await publish(broker, 20)

        async def received() -> bool:
            return (await first.counts()).stored >= 20

        await eventually(received, says="20 readings are stored")
        await asyncio.to_thread(shutil.rmtree if removed.is_dir() else Path.unlink, removed)
        await publish(broker, 30)
        assert await first.ended() == 1
    assert "was removed or moved while the gateway was running" in first.log
    async with running(config) as again:
        counts = await again.stored(50)
        assert counts.balanced
