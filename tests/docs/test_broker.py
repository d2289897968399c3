"""The access list for Mosquitto in the operator's guide keeps startups apart: promise 5 rests on it."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import aiomqtt
import pytest

from tests.docs.blocks import ROOT, blocks
from tests.servers import WITHIN, Mosquitto, find, need
from tests.servers.mqtt_clients import connect

GUIDE = ROOT / "docs" / "operators-guide.md"


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Mosquitto]:
    """Mosquitto with the files of the guide, and the accounts that its commands make."""
    need("mosquitto", "mosquitto_passwd")
    files = {block.argument: block.text for block in blocks(GUIDE) if block.kind == "file"}
    (tmp_path / "testbed.acl").write_text(files["testbed.acl"] + "\n")
    (tmp_path / "testbed.passwd").touch(mode=0o600)
    for account in ("gateway", "acme", "voltwise"):
        passwd = [find("mosquitto_passwd") or "", "-b", str(tmp_path / "testbed.passwd"), account, account]
        subprocess.run(passwd, check=True, capture_output=True)
    server = Mosquitto(tmp_path / "mosquitto")
    server.conf = (
        files["testbed.conf"]
        .replace("/etc/mosquitto/", f"{tmp_path}/")
        .replace("listener 1883", f"listener {server.port} {server.host}")
    )
    async with server:
        yield server


def account(broker: Mosquitto, name: str) -> aiomqtt.Client:
    return connect(broker, username=name, password=name)


async def first_topic(client: aiomqtt.Client) -> str:
    async with asyncio.timeout(WITHIN):
        return str((await anext(client.messages)).topic)


async def try_to_publish(broker: Mosquitto, name: str, topic: str) -> None:
    """Publish what may be forbidden; Mosquitto 2.0 ends the connection then, others just drop the message."""
    with suppress(aiomqtt.MqttError):
        async with account(broker, name) as client:
            await client.publish(topic, b"forged", qos=1)


async def test_a_startup_publishes_its_own_topics_alone(broker: Mosquitto) -> None:
    """What acme's account publishes as voltwise, or as the gateway, reaches nobody; as itself it is heard."""
    async with account(broker, "gateway") as gateway, account(broker, "acme") as acme:
        await gateway.subscribe("testbed/#", qos=1)
        await acme.subscribe("feeds/acme/#", qos=1)
        await try_to_publish(broker, "acme", "testbed/voltwise/c-1/1/charging")
        await try_to_publish(broker, "acme", "feeds/acme/air-01/climate")
        await acme.publish("testbed/acme/air-01/climate", b"{}", qos=1)
        assert await first_topic(gateway) == "testbed/acme/air-01/climate"
        await gateway.publish("feeds/acme/air-02/climate", b"{}", qos=1)
        assert await first_topic(acme) == "feeds/acme/air-02/climate"


async def test_a_startup_receives_only_its_own_feeds(broker: Mosquitto) -> None:
    """acme's account gets its own feedback and feeds, nobody else's, and no other startup's telemetry."""
    async with (
        account(broker, "gateway") as gateway,
        account(broker, "voltwise") as voltwise,
        account(broker, "acme") as acme,
    ):
        for topic_filter in ("testbed/#", "feeds/#", "feedback/#"):
            await acme.subscribe(topic_filter, qos=1)
        await voltwise.publish("testbed/voltwise/c-1/1/charging", b"{}", qos=1)
        for topic in ("feeds/voltwise/c-1/charging", "feedback/voltwise/c-1", "feedback/acme/air-01"):
            await gateway.publish(topic, b"{}", qos=1)
        assert await first_topic(acme) == "feedback/acme/air-01"


async def test_nobody_without_an_account_gets_in(broker: Mosquitto) -> None:
    """A client without a name, or with a wrong password, is rejected."""
    for name, password in ((None, None), ("acme", "wrong")):
        with pytest.raises(aiomqtt.MqttError):
            async with connect(broker, username=name, password=password):
                pass
