"""Reload: rules change under load and no message is lost; an invalid configuration changes nothing."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiomqtt
import pytest

from tests.builders import latest
from tests.running import OPERATOR, GatewayProcess, Running, climate, running, write_config
from tests.servers import WITHIN, Mosquitto, commands, eventually
from tests.servers.mqtt_clients import connect

AIR = """
  air:
    topic: lora/acme/{device}/air
    fields: {co2: {type: int}}
"""


@pytest.fixture
def config(tmp_path: Path, broker: Mosquitto) -> Path:
    return write_config(tmp_path / "config", broker.url)


@pytest.fixture
async def gateway(config: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    monkeypatch.setenv("GATEWAY_OPERATOR_TOKEN", OPERATOR)  # a reload reads the tokens again
    async with running(config, reloads=True) as one:
        yield one


def startup_file(config: Path) -> Path:
    return config / "startups" / "acme.yaml"


def add_air(config: Path) -> None:
    """Add a rule whose topics need a subscription of their own."""
    path = startup_file(config)
    path.write_text(path.read_text() + AIR)


async def test_a_rule_added_under_load_loses_nothing(gateway: Running, config: Path, broker: Mosquitto) -> None:
    """While up to 1,000 messages a second flow a rule is added: all of them are stored, on one connection, and the new
    topic's messages arrive while the others go on."""
    sent = 0
    stopped = False
    base = time.time_ns() // 1_000_000 - 3_600_000

    async def load(client: aiomqtt.Client) -> None:
        nonlocal sent
        while not stopped:  # a flag: on Python 3.11 aiomqtt can swallow a cancellation
            burst = range(sent, sent + 10)
            await asyncio.gather(
                *(client.publish("testbed/acme/d/climate", climate(20, base + i), qos=1) for i in burst)
            )
            sent = burst.stop
            await asyncio.sleep(0.01)  # the pace of a load; nothing is waited for

    async with connect(broker, max_inflight_messages=5000) as client:

        async def air_arrives() -> bool:
            await client.publish("lora/acme/d/air", b'{"co2":500}', qos=1)
            return "air" in await gateway.gateway.engine.store.measurements("acme")

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(load(client))
            await eventually(lambda: sent > 300)
            await asyncio.to_thread(add_air, config)
            await eventually(air_arrives, every=0.05, says="the new topic's messages arrive")
            before = sent
            await eventually(lambda: sent > before + 300)
            stopped = True
    counts = await gateway.stored(sent)
    assert counts.rejected == 0
    assert counts.balanced
    assert gateway.gateway.engine.sessions.state.connections == 3  # each of them once


async def test_an_invalid_configuration_changes_nothing(gateway: Running, config: Path, broker: Mosquitto) -> None:
    """An invalid file is reported in /readyz with file and line, the old rules go on; mended, it is taken over."""
    path = startup_file(config)
    good = path.read_text()
    path.write_text(good.replace("type: int", "type: itn"))
    await eventually(lambda: gateway.gateway.health().config.problem)
    async with gateway.client() as client:
        ready = await client.get("/readyz")
    assert ready.status_code == 200
    problem = ready.json()["parts"]["config"]["problem"]
    assert "acme.yaml:" in problem
    assert "'itn'" in problem
    async with connect(broker) as device:
        await device.publish("testbed/acme/d/climate", climate(20, time.time_ns() // 1_000_000), qos=1)
        await gateway.stored(1)
    path.write_text(good + AIR)
    await eventually(lambda: not gateway.gateway.health().config.problem)
    assert "air" in gateway.gateway.config.by_slug["acme"].topics


async def test_status_shows_that_the_files_are_not_used(config: Path, broker: Mosquitto) -> None:
    """While the configuration on disk is invalid, `gateway status` shows the running gateway's health and the
    problem."""
    async with GatewayProcess(config) as gateway:
        (url,) = await eventually(lambda: re.findall(r'"http": ?"([^"]+)"', gateway.log))
        await eventually(lambda: "broker connected" in gateway.log)
        startup_file(config).write_text("topics: [")
        await eventually(lambda: "configuration not reloaded" in gateway.log)
        command = [sys.executable, "-m", "gateway", "status", "--config", str(config), "--url", url]
        command += ["--token", OPERATOR]
        status = await commands.run(*command)
        assert status.code == 0
        assert "config: the configuration on disk is not used" in status.out
        assert "acme.yaml:" in status.out.replace("\n", "")  # it is folded
        assert "broker" in status.out
        assert await gateway.terminate() == 0


async def test_a_new_startup_has_everything(gateway: Running, config: Path, broker: Mosquitto) -> None:
    """A startup that is added while the gateway runs is taken in, stored, fed and seen, without a restart."""
    text = startup_file(config).read_text().replace("testbed/acme", "testbed/birch").replace("Acme", "Birch")
    (config / "startups" / "birch.yaml").write_text(text)
    await eventually(lambda: "birch" in gateway.gateway.config.by_slug)
    async with connect(broker) as device:
        await device.subscribe("feeds/birch/#")
        await device.publish("testbed/birch/b-1/climate", climate(20, time.time_ns() // 1_000_000), qos=1)
        await gateway.stored(1, "birch")
        async with asyncio.timeout(WITHIN):
            message = await anext(device.messages)
        assert str(message.topic) == "feeds/birch/b-1/climate"
    async with gateway.client() as client:
        devices = (await client.get("/v1/startups/birch/devices")).json()["devices"]
    assert [one["device"] for one in devices] == ["b-1"]


async def test_a_startup_that_is_gone_is_not_taken_in(gateway: Running, config: Path, broker: Mosquitto) -> None:
    """Messages of a startup whose file was removed are rejections that an operator sees; its data stays."""
    async with connect(broker) as device:
        await device.publish("testbed/voltwise/v/climate", climate(20, time.time_ns() // 1_000_000), qos=1)
        await gateway.stored(1, "voltwise")
        (config / "startups" / "voltwise.yaml").unlink()
        await eventually(lambda: "voltwise" not in gateway.gateway.config.by_slug)
        await device.publish("testbed/voltwise/v/climate", climate(20, time.time_ns() // 1_000_000), qos=1)

        async def unrouted() -> bool:
            return (await gateway.counts("_unrouted")).rejected == 1

        await eventually(unrouted)
    assert len(await latest(gateway.gateway.engine.store, "voltwise")) == 1


async def test_settings_that_need_a_restart_are_reported(config: Path, broker: Mosquitto) -> None:
    """SIGHUP reads the files at once; a setting that cannot change while running is named in the log."""
    async with GatewayProcess(config) as gateway:
        await eventually(lambda: "broker connected" in gateway.log)
        path = config / "gateway.yaml"
        path.write_text(path.read_text() + "journal: {max_size: 1GiB}\n")
        gateway.send(signal.SIGHUP)
        await eventually(lambda: "it takes effect at the next start" in gateway.log)
        assert '"journal"' in gateway.log
        assert await gateway.terminate() == 0
