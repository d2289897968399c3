"""Real brokers: their grants are compared with the needs of the configuration."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import mqtt5
import pytest

from gateway.config import Mqtt
from gateway.errors import SessionError
from gateway.mqtt.broker import Broker
from gateway.mqtt.broker_probe import probe
from gateway.mqtt.dialogue import connected
from gateway.mqtt.embedded_broker import EmbeddedBroker
from gateway.mqtt.grants import SYS, Comparison, Needs
from tests.servers import Mosquitto
from tests.servers.dynsec import SecureMosquitto

NEEDS = Needs(7 * 86_400, 64 << 10, "acme", ("testbed/#", "testbed/acme/#", "lora/+/up"), shares=False)
SET_UP = "retain_available false\nmax_packet_size 135168\n"


async def compared(broker: Mosquitto, needs: Needs = NEEDS, **settings: Any) -> Comparison:
    return Comparison.of(needs, await probe(Mqtt.model_validate({"url": broker.url, **settings}), needs))


async def test_the_commands_say_what_is_missing(tmp_path: Path) -> None:
    """`gateway check --broker` lists what is missing and exits with 1, also as JSON; without the option nobody is
    asked."""
    (tmp_path / "config").mkdir()
    async with Mosquitto(tmp_path, conf="retain_available false\nmax_packet_size 2000\n") as broker:
        (tmp_path / "config" / "gateway.yaml").write_text(f"mqtt: {{url: '{broker.url}'}}\n")
        rule = "{topic: 'testbed/acme/{device}/climate', fields: {t: {type: float}}}"
        (tmp_path / "config" / "startups").mkdir()
        (tmp_path / "config" / "startups" / "acme.yaml").write_text(f"name: Acme\ntopics: {{climate: {rule}}}\n")
        runs = await asyncio.gather(*(check(tmp_path, *args) for args in ([], ["--broker"], ["--broker", "--json"])))
    assert [code for code, _ in runs] == [0, 1, 1]
    assert "packet size: expected at least 69,632 bytes" in " ".join(runs[1][1].split())
    answer = json.loads(runs[2][1])
    assert not answer["ok"]
    assert answer["broker"]["missing"][0]["got"] == "2,000 bytes"
    assert answer["broker"]["grants"]["maximum_packet_size"] == 2000


async def check(directory: Path, *args: str) -> tuple[int, str]:
    """Run `gateway check`; return its exit status and what it printed."""
    command = [sys.executable, "-m", "gateway", "check", str(directory / "config"), *args]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode()


def missing(comparison: Comparison) -> list[str]:
    return [one.where for one in comparison.shortfalls if not one.is_advice]


async def test_a_broker_that_is_set_up_as_described_grants_all(tmp_path: Path) -> None:
    """With the settings of the guide nothing is missing, and there is no advice; the probe leaves no session."""
    async with Mosquitto(tmp_path, conf=SET_UP) as broker:
        assert (await compared(broker)).shortfalls == ()
        for number in (1, 2):
            hello = mqtt5.ConnectPacket(f"testbed-gateway._probe-{number}", clean_start=False)
            async with connected(Broker(broker.host, broker.port), hello) as (_, connack):
                assert not connack.session_present


async def test_a_plain_mosquitto_gets_advice(tmp_path: Path) -> None:
    """Mosquitto as it comes grants enough; that packets and retained messages have no limit is said, with what to
    set."""
    async with Mosquitto(tmp_path) as broker:
        comparison = await compared(broker)
    assert comparison.is_enough
    assert {one.where for one in comparison.shortfalls} == {"packet size", "retained messages"}
    assert "retain_available false" in str(comparison.shortfalls[1])


async def test_packets_that_are_too_small_are_missing(tmp_path: Path) -> None:
    """A limit on packets below the largest payload quota is named, with the startup that has it."""
    async with Mosquitto(tmp_path, conf="retain_available false\nmax_packet_size 60000\n") as broker:
        (one,) = (await compared(broker)).shortfalls
    assert one.where == "packet size"
    assert "69,632 bytes: quota.payload of acme" in one.expected
    assert one.got == "60,000 bytes"


async def test_an_account_with_one_connection_is_noticed(tmp_path: Path) -> None:
    """Where the account name is the client id, the second connection ends the first: the answer names the listener's
    setting and the gateway's."""
    conf = f"{SET_UP}use_username_as_clientid true\n"
    async with SecureMosquitto(tmp_path, conf=conf) as broker:
        comparison = await compared(broker, **await account(broker, tmp_path, "#"))
    assert "connections" in missing(comparison)
    text = "".join(map(str, comparison.shortfalls))
    assert "use_username_as_clientid" in text
    assert "mqtt.sessions: one" in text


async def test_filters_that_are_rejected_are_named(tmp_path: Path) -> None:
    """Filters that the account may not subscribe to are missing; that it may not read `$SYS` is advice. An account
    that may read `testbed/#` may read each startup's part of it."""
    async with SecureMosquitto(tmp_path, conf=SET_UP) as broker:
        settings = await account(broker, tmp_path, "testbed/#")
        comparison = await compared(broker, **settings)
        assert comparison.grants.rejected == ("lora/+/up", SYS)
        assert missing(comparison) == ["subscriptions"]
        assert missing(await compared(broker, Needs(0, 1, "acme", ("testbed/acme/#",), shares=False), **settings)) == []


async def test_mosquitto_cannot_share_a_startup(tmp_path: Path) -> None:
    """It forgets shared subscriptions when it restarts: it is known also where it retains nothing, its version too."""
    for conf in ("", SET_UP):
        async with Mosquitto(tmp_path / f"mosquitto-{len(conf)}", conf=conf) as broker:
            comparison = await compared(broker, Needs(0, 1, "acme", ("testbed/acme/#",), shares=True))
        assert missing(comparison) == ["shared subscriptions"]
        assert "Mosquitto, which forgets them" in str(comparison.shortfalls[0])


async def test_many_filters_are_asked_in_parts(tmp_path: Path) -> None:
    """A thousand startups are no reason for a packet of their size."""
    filters = tuple(f"testbed/startup-{number}/#" for number in range(1000))
    async with Mosquitto(tmp_path, conf="retain_available false\nmax_packet_size 8000\n") as broker:
        comparison = await compared(broker, Needs(0, 1000, "acme", filters, shares=False))
    assert comparison.shortfalls == ()


async def test_a_broker_without_mqtt_5_says_what_is_unknown() -> None:
    """The embedded broker speaks 3.1.1: nothing is missing, and the advice says that nothing is known."""
    broker = EmbeddedBroker()
    async with broker:
        comparison = Comparison.of(NEEDS, await probe(Mqtt(url=broker.url), NEEDS))
    assert comparison.is_enough
    assert "unknown" in str(comparison.shortfalls[0])
    assert comparison.as_json()["grants"] == {"mqtt_5": False}


async def test_a_rejected_account_is_an_error(tmp_path: Path) -> None:
    """A wrong password is reported as the session reports it."""
    async with SecureMosquitto(tmp_path) as broker:
        with pytest.raises(SessionError, match=r"mqtt\.username"):
            await compared(broker)


async def account(broker: SecureMosquitto, directory: Path, *filters: str) -> dict[str, Any]:
    """Make an account that may subscribe to the filters; return the settings that use it."""
    acls = [{"acltype": "subscribePattern", "topic": one, "priority": 0, "allow": True} for one in filters]
    await broker.control({"command": "createRole", "rolename": "reader", "acls": acls})
    roles = [{"rolename": "reader"}]
    await broker.control({"command": "createClient", "username": "gateway", "password": "secret", "roles": roles})
    (directory / "password").write_text("secret")
    return {"username": "gateway", "password_file": directory / "password"}
