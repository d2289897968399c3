"""Ready while messages are taken: a session that fails is the problem of its startup, not of the gateway."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from tests.running import Running, climate, running, write_config
from tests.servers import Mosquitto, eventually
from tests.servers.dynsec import SecureMosquitto
from tests.servers.mqtt_clients import connect


@pytest.fixture
async def secure(tmp_path: Path) -> AsyncIterator[SecureMosquitto]:
    """A broker whose account for the gateway may subscribe to what acme sends, and to nothing of voltwise."""
    async with SecureMosquitto(tmp_path / "mosquitto") as broker:
        sends = {"acltype": "publishClientSend", "topic": "testbed/#", "priority": 0, "allow": True}
        for name, acls in {"gateway": _acls("acme"), "device": [sends]}.items():
            await broker.control({"command": "createRole", "rolename": name, "acls": acls})
            account = {"username": name, "password": "secret", "roles": [{"rolename": name}]}
            await broker.control({"command": "createClient", **account})
        yield broker


def _acls(slug: str) -> list[dict[str, Any]]:
    """Return the rights that the gateway needs for a startup."""
    return [{"acltype": "subscribePattern", "topic": f"testbed/{slug}/#", "priority": 0, "allow": True}]


def _config(tmp_path: Path, broker: Mosquitto, **mqtt: Any) -> Path:
    (tmp_path / "password").write_text("secret")
    return write_config(tmp_path / "config", broker.url, mqtt={"url": broker.url, **mqtt})


async def health(gateway: Running) -> dict[str, Any]:
    async with gateway.client() as client:
        answer = (await client.get("/readyz")).json()
        status = (await client.get("/v1/operator/status")).json()
    assert status["health"]["parts"] == answer["parts"]
    return dict(status["health"])


async def ok_metrics(gateway: Running) -> dict[str, str]:
    """Return the metrics `gateway_…_ok`."""
    async with gateway.client() as client:
        text = (await client.get("/metrics")).text
    return dict(line.rsplit(" ", 1) for line in text.splitlines() if "_ok" in line and line[0] != "#")


async def test_a_session_without_permission_is_that_of_its_startup(secure: SecureMosquitto, tmp_path: Path) -> None:
    """While the broker denies one startup's subscription, the gateway is ready and the others' messages are stored;
    who cannot be served is shown. Once it is granted, that startup's messages come too."""
    config = _config(tmp_path, secure, username="gateway", password_file="../password")
    async with running(config, connected=False) as gateway:
        await eventually(lambda: has_begun(gateway))
        found = await health(gateway)
        assert found["ready"]
        assert found["parts"]["broker"] == {"ok": True}
        assert found["parts"]["sessions"]["problem"].startswith(
            "1 of 2 startups' messages wait at the broker (voltwise: the broker rejected the subscription"
        )
        assert found["sessions"]["acme"] == {"ok": True}
        assert "testbed/voltwise/#" in found["sessions"]["voltwise"]["problem"]
        metrics = await ok_metrics(gateway)
        assert metrics["gateway_broker_ok"] == "1.0"
        assert metrics['gateway_session_ok{startup="acme"}'] == "1.0"
        assert metrics['gateway_session_ok{startup="voltwise"}'] == "0.0"
        await publish(secure, "acme")
        await gateway.stored(1)
        for acl in _acls("voltwise"):
            await secure.control({"command": "addRoleACL", "rolename": "gateway", **acl})
        await eventually(lambda: gateway.gateway.engine.sessions.state.connected)
        await publish(secure, "voltwise")
        await gateway.stored(1, "voltwise")
        assert (await health(gateway))["parts"]["sessions"] == {"ok": True}


async def has_begun(gateway: Running) -> bool:
    """Return whether each session was tried."""
    async with gateway.client() as client:
        return "not connected yet" not in (await client.get("/readyz")).text


async def publish(broker: Mosquitto, slug: str) -> None:
    async with connect(broker, username="device", password="secret") as device:
        await device.publish(f"testbed/{slug}/th-1/climate", climate(20, time.time_ns() // 1_000_000), qos=1)


async def test_without_any_session_it_is_not_ready(secure: SecureMosquitto, tmp_path: Path) -> None:
    """Where the broker denies all subscriptions, nobody is served: the part `broker` says so."""
    await secure.control(
        {"command": "removeRoleACL", "rolename": "gateway", "acltype": "subscribePattern", "topic": "testbed/acme/#"}
    )
    config = _config(tmp_path, secure, username="gateway", password_file="../password")
    async with running(config, connected=False) as gateway:
        await eventually(lambda: has_begun(gateway))
        found = await health(gateway)
        assert not found["ready"]
        assert found["parts"]["broker"]["problem"] == "no startup's session works: see sessions"
        assert found["parts"]["sessions"]["problem"].startswith("2 of 2 startups' messages wait")


@asynccontextmanager
async def taking_over(broker: Mosquitto, client_id: str) -> AsyncIterator[None]:
    """Take a session over, again and again, as a second gateway or somebody's script would."""

    async def take() -> None:
        while True:
            with suppress(aiomqtt.MqttError):
                async with connect(broker, identifier=client_id, clean_session=False) as thief:
                    async for _ in thief.messages:
                        pass

    task = asyncio.create_task(take())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_session_that_another_client_takes_over(tmp_path: Path) -> None:
    """The gateway stays ready while somebody takes over one startup's session; not if it is the one that publishes."""
    async with (
        Mosquitto(tmp_path / "mosquitto") as broker,
        running(_config(tmp_path, broker, protocol="5")) as gateway,
    ):
        async with taking_over(broker, "testbed-gateway.voltwise"):
            await eventually(lambda: taken(gateway, "sessions", "voltwise: "))
        async with taking_over(broker, "testbed-gateway._gateway"):
            await eventually(lambda: taken(gateway, "broker", ""))
        await eventually(lambda: gateway.gateway.engine.sessions.state.connected)


async def taken(gateway: Running, part: str, whose: str) -> bool:
    """Return whether a part says that a connection was lost; only that of the publisher is needed."""
    found = await health(gateway)
    problem = found["parts"][part].get("problem", "")
    if "was lost" not in problem:
        return False
    assert whose in problem
    assert found["ready"] is (part != "broker")
    return True
