"""What the broker drops is noticed: on a real Mosquitto, with the right that provisioning gives and without it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.config import Mqtt
from gateway.metrics import Metrics, exposition
from gateway.mqtt.broker_watch import BrokerWatch
from tests.servers import WITHIN, Mosquitto, eventually
from tests.servers.dynsec import SecureMosquitto
from tests.servers.mqtt_clients import leave_session, publish

SMALL = "max_queued_messages 3\nsys_interval 1\n"


@asynccontextmanager
async def watching(watch: BrokerWatch) -> AsyncIterator[None]:
    task = asyncio.create_task(watch.run())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(params=["retain_available true", "retain_available false"])
async def broker(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Mosquitto]:
    """A broker whose sessions hold three messages; without retained messages `$SYS` reports only what changes."""
    async with Mosquitto(tmp_path, conf=f"{SMALL}{request.param}\n") as one:
        await leave_session(one, "away", "testbed/#")
        yield one


async def test_dropped_messages_are_counted_logged_and_shown(broker: Mosquitto) -> None:
    """Messages beyond a full queue are in the metrics, in one warning, and in the part of health, with what to do."""
    metrics = Metrics()
    watch = BrokerWatch(Mqtt(url=broker.url), metrics)
    with capture_logs() as logs:
        async with watching(watch):
            await eventually(lambda: "heap_bytes" in metrics.broker, says="the broker is watched")
            assert watch.problem == ""
            await publish(broker, "testbed/acme/d1/climate", *[b"21"] * 10)
            await eventually(lambda: watch.problem, says="the drop is noticed")
            await publish(broker, "testbed/acme/d1/climate", *[b"21"] * 10)
            await eventually(lambda: metrics.broker["dropped_messages"] == 17, says="all drops are counted")
            assert "17 messages" in watch.problem
            assert "gateway devices block" in watch.problem
            text = await asyncio.to_thread(lambda: exposition(metrics.families(), {}, {}, {}).decode())
    assert "gateway_broker_dropped_messages_total 17.0" in text
    assert "gateway_broker_connected_clients 1.0" in text
    warnings = [entry for entry in logs if entry["log_level"] == "warning"]
    assert [entry["event"] for entry in warnings] == ["the broker drops messages"]


async def test_a_lost_broker_is_watched_again(broker: Mosquitto) -> None:
    """While the broker is away its figures are absent; when it is back they are there again, and a counter that began
    anew is no drop."""
    metrics = Metrics()
    watch = BrokerWatch(Mqtt(url=broker.url), metrics)
    async with watching(watch):
        await eventually(lambda: "heap_bytes" in metrics.broker)
        await broker.stop()
        await eventually(lambda: not metrics.broker, says="old figures are gone")
        await broker.start()
        await eventually(lambda: "heap_bytes" in metrics.broker, says="it is watched again")
        assert watch.problem == ""


async def test_what_is_shown_ends_a_while_after_the_last_drop(broker: Mosquitto) -> None:
    """A quarter of an hour after the last drop, health is without a problem again."""
    now = 0.0
    watch = BrokerWatch(Mqtt(url=broker.url), Metrics(), clock=lambda: now)
    async with watching(watch):
        await publish(broker, "testbed/acme/d1/climate", *[b"21"] * 4)
        await eventually(lambda: dropped(broker, watch), says="the drop is noticed")
        now = 899.0
        assert watch.problem
        now = 901.0
        assert watch.problem == ""


async def dropped(broker: Mosquitto, watch: BrokerWatch) -> str:
    """Drop one more message: what was dropped before the watch began is no news."""
    await publish(broker, "testbed/acme/d1/climate", b"21")
    return watch.problem


async def test_a_broker_that_may_not_be_read_is_left_alone(tmp_path: Path) -> None:
    """Where the account may not read `$SYS`, the watch says so once, with what to do, and ends."""
    async with SecureMosquitto(tmp_path) as broker:
        account = {"username": "gateway", "password": "secret", "roles": []}
        await broker.control({"command": "createClient", **account})
        secret = tmp_path / "password"
        await asyncio.to_thread(secret.write_text, "secret")
        watch = BrokerWatch(Mqtt(url=broker.url, username="gateway", password_file=secret), Metrics())
        with capture_logs() as logs:
            async with asyncio.timeout(WITHIN):
                await watch.run()
    (entry,) = logs
    assert "may not read $SYS/broker/#" in entry["problem"]
    assert "gateway provision apply" in entry["next"]
