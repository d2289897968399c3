"""Startups in several stores: acme in an InfluxDB of the name east, voltwise in the default store."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.running import OPERATOR, Running, climate, running, write_config
from tests.servers import Influxd, InfluxV2Front, Mosquitto, eventually
from tests.servers.mqtt_clients import connect


@pytest.fixture
async def influxd(tmp_path: Path) -> AsyncIterator[Influxd]:
    async with Influxd(tmp_path / "influxd") as server:
        yield server


@pytest.fixture
async def config(
    tmp_path: Path, broker: Mosquitto, influxd: Influxd, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Path]:
    async with InfluxV2Front(influxd, buckets=["acme"]) as front:
        east = {"kind": "influxdb", "influxdb": {"url": front.url, "org": front.org, "timeout": "2s"}}
        monkeypatch.setenv("GATEWAY_INFLUXDB_TOKEN_EAST", front.token)
        monkeypatch.setenv("GATEWAY_OPERATOR_TOKEN", OPERATOR)  # a reload reads the tokens again
        drain = {"interval": "20ms", "max_backoff": "1s", "stop_within": "500ms"}
        directory = write_config(tmp_path / "config", broker.url, stores={"east": east}, drain=drain)
        send_acme_to(directory, "east")
        yield directory


@pytest.fixture
async def gateway(config: Path) -> AsyncIterator[Running]:
    async with running(config, reloads=True) as one:
        yield one


def send_acme_to(config: Path, store: str) -> None:
    """Name another store in acme's file; `null` is the default one."""
    path = config / "startups" / "acme.yaml"
    lines = [line for line in path.read_text().splitlines() if not line.startswith("store:")]
    path.write_text("\n".join([f"store: {store}", *lines, ""]))


async def publish(broker: Mosquitto, slug: str, temperature: float) -> None:
    async with connect(broker) as device:
        payload = climate(temperature, time.time_ns() // 1_000_000)
        await device.publish(f"testbed/{slug}/d/climate", payload, qos=1)


async def temperatures(gateway: Running, slug: str) -> list[float]:
    async with gateway.client() as client:
        answer = await client.get(f"/v1/startups/{slug}/latest")
        assert answer.status_code == 200
        return [one["fields"]["temperature"] for one in answer.json()["readings"]]


async def test_each_startup_is_stored_and_read_in_its_own_store(
    gateway: Running, broker: Mosquitto, influxd: Influxd
) -> None:
    """One way in, two stores: each has the readings of its startups, and history is read from there."""
    for slug, temperature in (("acme", 1.0), ("voltwise", 2.0)):
        await publish(broker, slug, temperature)
        await gateway.stored(1, slug)
        assert await temperatures(gateway, slug) == [temperature]
    assert [row[1] for row in await influxd.rows("acme", "SELECT temperature FROM climate")] == [1.0]
    stored = gateway.gateway.config.state_dir / "store"
    assert [path.name for path in stored.glob("*.db")] == ["voltwise.db"]


async def test_a_store_that_is_down_costs_only_its_own_startups_delay(
    gateway: Running, broker: Mosquitto, influxd: Influxd
) -> None:
    """While one store is down the startups of another are stored; what waits is stored when it is back."""
    await influxd.kill()
    await publish(broker, "acme", 1.0)
    await eventually(lambda: gateway.gateway.engine.drain.states["acme"].problem)
    await publish(broker, "voltwise", 2.0)
    await gateway.stored(1, "voltwise")
    assert gateway.gateway.engine.drain.states["voltwise"].problem == ""
    assert (await gateway.counts("acme")).journaled == 1
    await influxd.start()
    await gateway.stored(1, "acme")


async def test_a_reload_sends_a_startup_to_another_store(
    gateway: Running, config: Path, broker: Mosquitto, influxd: Influxd
) -> None:
    """After its file names another store its next readings are stored and read there; the old ones stay."""
    await publish(broker, "acme", 1.0)
    await gateway.stored(1)
    send_acme_to(config, "null")
    await eventually(lambda: gateway.gateway.config.by_slug["acme"].store is None)
    await publish(broker, "acme", 2.0)
    await gateway.stored(2)
    assert await temperatures(gateway, "acme") == [2.0]
    assert [row[1] for row in await influxd.rows("acme", "SELECT temperature FROM climate")] == [1.0]


async def test_a_store_that_came_while_the_gateway_ran_is_there_after_a_restart(
    config: Path, broker: Mosquitto
) -> None:
    """Readings for a store that gateway.yaml has only since the start wait, which is reported; the next run stores
    them."""
    async with running(config, reloads=True) as gateway:
        settings = config / "gateway.yaml"
        settings.write_text(settings.read_text().replace("stores:", "stores:\n  west: {}"))
        send_acme_to(config, "west")
        await eventually(lambda: gateway.gateway.config.by_slug["acme"].store == "west")
        await publish(broker, "acme", 2.0)
        await eventually(lambda: "restart the gateway" in gateway.gateway.engine.drain.states["acme"].problem)
    async with running(config) as gateway:
        await gateway.stored(1)
        assert await temperatures(gateway, "acme") == [2.0]
    assert (gateway.gateway.config.state_dir / "store" / "acme.db").exists()
