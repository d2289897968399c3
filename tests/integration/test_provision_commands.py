"""The provisioning commands as an operator runs them, against a real Mosquitto with dynamic security."""

from __future__ import annotations

import asyncio
import json
import os
import re
import stat
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiomqtt
import httpx
import pytest
from ruamel.yaml import YAML

from gateway.feeds.auth import token_hash
from gateway.stores.sqlite import SqliteStore
from tests.running import OPERATOR, GatewayProcess, write_config
from tests.servers import FlakyProxy, eventually
from tests.servers.dynsec import ADMIN, ADMIN_PASSWORD, SecureMosquitto

Gateway = Callable[..., Awaitable["Finished"]]


@dataclass(frozen=True)
class Finished:
    """A command that has ended. `out` is what it printed, `err` what it told beside."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def secret(self, name: str, whose: str = "MQTT account") -> str:
        made = self.json["credentials"]
        return next(str(one["secret"]) for one in made if (one["name"], one["whose"]) == (name, whose))


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[SecureMosquitto]:
    async with SecureMosquitto(tmp_path / "mosquitto") as server:
        yield server


@pytest.fixture
def config(tmp_path: Path, broker: SecureMosquitto) -> Path:
    mqtt = {"url": broker.url, "username": "gateway", "password_file": "../secrets/mqtt-gateway.token"}
    directory = write_config(tmp_path / "config", broker.url, mqtt=mqtt)
    YAML().dump({"mosquitto": {"url": broker.url}}, directory / "provision.yaml")
    return directory


@pytest.fixture
def gateway(config: Path) -> Gateway:
    """`await gateway("provision", "plan")`."""

    async def run(*arguments: object, password: str = ADMIN_PASSWORD) -> Finished:
        environment = {"GATEWAY_PROVISION_MQTT_PASSWORD": password, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
        command = [sys.executable, "-m", "gateway", *map(str, arguments), "--config", str(config)]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command, env=os.environ | environment, stdout=pipe, stderr=pipe)
        out, err = await asyncio.wait_for(process.communicate(), 60)
        assert "Traceback" not in err.decode()
        return Finished(process.returncode or 0, out.decode(), err.decode())

    return run


async def signs_in(broker: SecureMosquitto, user: str, password: str) -> bool:
    try:
        async with aiomqtt.Client("127.0.0.1", broker.port, username=user, password=password):
            return True
    except aiomqtt.MqttError:
        return False


async def client(running: GatewayProcess, token: str) -> httpx.AsyncClient:
    """The API of a gateway that has started."""
    (url,) = await eventually(lambda: re.findall(r'"http": ?"([^"]+)"', running.log))
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=20)


async def test_plan_apply_plan(gateway: Gateway) -> None:
    """The plan lists the steps, the apply does them and tells the credentials, and then there is nothing to do."""
    plan = await gateway("provision", "plan")
    assert plan.code == 0
    assert "+ mosquitto role acme" in plan.out
    assert "subscribePattern feeds/acme/#" in plan.out
    applied = await gateway("provision", "apply", "--json")
    assert applied.code == 0
    assert {one["name"] for one in applied.json["credentials"]} == {"acme", "voltwise"}
    again = await gateway("provision", "plan")
    assert "no steps" in again.out
    assert (await gateway("provision", "plan", "--json")).json["steps"] == []
    assert (await gateway("provision", "apply", "--json")).json["credentials"] == []


async def test_a_startup_joins_and_its_device_is_heard(
    gateway: Gateway, config: Path, broker: SecureMosquitto, tmp_path: Path
) -> None:
    """One command gives a startup all it needs: its device signs in and is stored, its token opens its data, and the
    secrets stand in the hand-out alone."""
    joined = await gateway(
        "startups", "add", "birch", "--name", "Birch Labs", "--device", "b-1", "--handouts", tmp_path / "out", "--json"
    )
    assert joined.code == 0
    token, password = joined.secret("birch", "HTTP API"), joined.secret("birch.b-1")
    page = tmp_path / "out" / "birch.md"
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    assert token in page.read_text()
    written = (config / "startups" / "birch.yaml").read_text()
    assert token_hash(token) in written
    assert token not in written
    async with GatewayProcess(config) as running:
        await eventually(lambda: "broker connected" in running.log)
        async with aiomqtt.Client("127.0.0.1", broker.port, username="birch.b-1", password=password) as device:
            await device.publish("testbed/birch/b-1/climate", b'{"temperature": 21.5}', qos=1)

        async def stored() -> bool:
            return (await running.counts("birch")).stored == 1

        await eventually(stored)
        async with await client(running, token) as own:
            latest = await own.get("/v1/startups/birch/latest")
            assert latest.status_code == 200
            assert "21.5" in latest.text
            assert (await own.get("/v1/startups/acme/latest")).status_code == 403
        assert await running.terminate() == 0


async def test_devices_get_accounts_and_new_passwords(gateway: Gateway, broker: SecureMosquitto) -> None:
    """A device that is added signs in; with a new password the old one ends."""
    added = await gateway("devices", "add", "acme", "d-1", "d-2", "--json")
    first = added.secret("acme.d-1")
    assert await signs_in(broker, "acme.d-1", first)
    assert await signs_in(broker, "acme.d-2", added.secret("acme.d-2"))
    renewed = await gateway("devices", "password", "acme", "d-1")
    assert renewed.code == 0
    assert not await signs_in(broker, "acme.d-1", first)
    (second,) = re.findall(r"acme\.d-1 +(\S+)", renewed.out)
    assert await signs_in(broker, "acme.d-1", second)


async def test_a_startup_leaves(gateway: Gateway, config: Path, broker: SecureMosquitto, tmp_path: Path) -> None:
    """Its data is exported, its accounts end, its file is gone; the data itself goes only where that is asked for."""
    password = (await gateway("devices", "add", "acme", "d-1", "--json")).secret("acme.d-1")
    store = SqliteStore(config.parent / "state" / "store")
    await store.open()
    await store.write("acme", [b"climate,device=d-1 temperature=1.0 1"])
    await store.close()
    left = await gateway("startups", "remove", "acme", "--export-to", tmp_path / "export")
    assert left.code == 0
    assert "exported 1 readings" in left.err
    assert (tmp_path / "export" / "climate.csv.gz").exists()
    assert not (config / "startups" / "acme.yaml").exists()
    assert not await signs_in(broker, "acme.d-1", password)
    assert (config.parent / "state" / "store" / "acme.db").exists()
    await gateway("startups", "add", "acme", "--name", "Acme again")
    gone = await gateway("startups", "remove", "acme", "--export-to", tmp_path / "again", "--delete-data")
    assert "exported 1 readings" in gone.err
    assert not (config.parent / "state" / "store" / "acme.db").exists()


async def test_a_cohort_opens_and_closes(
    gateway: Gateway, config: Path, broker: SecureMosquitto, tmp_path: Path
) -> None:
    """Two startups join with one command; closed, they are exported, shut out, refused as `ended`, and their files
    stay. Nobody else notices, and removing another startup gives them nothing back."""
    opened = await gateway("cohort", "open", "spring", "--until", "2099-01-31", "birch=Birch Labs", "cedar", "--json")
    assert opened.code == 0
    password = opened.secret("birch")
    other = (await gateway("devices", "add", "acme", "d-1", "--json")).secret("acme.d-1")
    closed = await gateway("cohort", "close", "spring", "--export-to", tmp_path / "export")
    assert closed.code == 0
    assert not await signs_in(broker, "birch", password)
    assert await signs_in(broker, "acme.d-1", other)
    assert (config / "startups" / "cedar.yaml").exists()
    tried = await gateway("try", "testbed/cedar/x/climate", '{"temperature": 1}', "--json")
    assert [reason["code"] for reason in tried.json["reasons"]] == ["ended"]
    assert (await gateway("provision", "plan", "--json")).json["steps"] == []
    removed = await gateway("startups", "remove", "voltwise", "--export-to", tmp_path / "voltwise", "--json")
    assert removed.json["credentials"] == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("startups", "add", "Acme", "--name", "x"), "expected a slug"),
        (("startups", "add", "acme", "--name", "x"), "is there already"),
        (("startups", "add", "birch", "--name", "x", "--team", "nobody"), "an e-mail address"),
        (
            ("startups", "add", "birch", "--name", "x", "--store", "east"),
            "a name under stores in gateway.yaml (none yet)",
        ),
        (("startups", "token", "nobody"), "there are: acme, voltwise"),
        (("startups", "remove", "Acme", "--export-to", "x"), "there is no startup 'Acme'; there are: acme, voltwise"),
        (("devices", "add", "ACME", "d"), "there is no startup 'ACME'"),
        (("devices", "password", "Acme", "d"), "there is no startup 'Acme'"),
        (("cohort", "open", "spring", "--until", "2099-01-31", "birch", "Cedar"), "got 'Cedar'"),
        (("cohort", "open", "spring", "--until", "2099-01-31", "birch", "acme"), "acme.yaml is there already"),
        (("devices", "add", "nobody", "d"), "there are: acme, voltwise"),
        (("devices", "add", "acme", "a/b"), "expected a device name"),
        (("devices", "password", "acme", "d-9"), "has no device 'd-9'"),
        (("cohort", "close", "autumn", "--export-to", "x"), "no startup is of cohort 'autumn'"),
    ],
)
async def test_mistakes_are_told(gateway: Gateway, config: Path, arguments: tuple[str, ...], says: str) -> None:
    """A mistake is answered in words with exit status 1, and leaves no file behind."""
    before = sorted((config / "startups").iterdir())
    wrong = await gateway(*arguments)
    assert wrong.code == 1
    assert says in wrong.err
    assert sorted((config / "startups").iterdir()) == before


async def test_a_wrong_password_and_a_server_that_is_down(gateway: Gateway, broker: SecureMosquitto) -> None:
    """Both say what to check; once the server is back, the next plan shows everything that is still to do."""
    refused = await gateway("provision", "apply", password="wrong")
    assert refused.code == 1
    assert "check the admin's name and password" in refused.err
    await broker.stop()
    down = await gateway("provision", "apply")
    assert down.code == 1
    assert f"no Mosquitto answers at 127.0.0.1:{broker.port}" in down.err
    await broker.start()
    assert "+ mosquitto role acme" in (await gateway("provision", "plan")).out


async def test_a_startup_joins_while_the_broker_is_down(
    gateway: Gateway, config: Path, broker: SecureMosquitto
) -> None:
    """Its file is written and its API token told, since nobody could tell it later; the next apply makes the rest."""
    await broker.stop()
    joined = await gateway("startups", "add", "birch", "--name", "Birch", "--device", "b-1", "--json")
    assert joined.code == 1
    assert "no Mosquitto answers" in joined.err
    assert token_hash(joined.secret("birch", "HTTP API")) in (config / "startups" / "birch.yaml").read_text()
    shown = await gateway("startups", "add", "cedar", "--name", "Cedar")
    assert "shown once" in shown.out
    await broker.start()
    applied = await gateway("provision", "apply", "--json")
    assert await signs_in(broker, "birch.b-1", applied.secret("birch.b-1"))


class Breaking(FlakyProxy):
    """A network that breaks for good after the answer to the first role that is made."""

    named = 0

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65_536):
            self.named += data.count(b'"createRole"')
            if self.named > 2:  # asked, answered, asked again
                return self.cut()
            sink.write(data)
            await sink.drain()
        return None


@pytest.mark.slow
async def test_it_goes_on_after_a_failure_half_way(gateway: Gateway, config: Path, broker: SecureMosquitto) -> None:
    """A run that loses the broker half-way says which step failed and how far it came; the next plan shows the rest,
    and the next run does it."""
    steps = (await gateway("provision", "plan", "--json")).json["steps"]
    async with Breaking.before(broker) as network:
        YAML().dump({"mosquitto": {"url": network.url}}, config / "provision.yaml")
        broken = await gateway("provision", "apply")
    assert broken.code == 1
    assert f"1 of {len(steps)} steps done; run it again to go on" in broken.out
    assert "failed: + mosquitto role acme" in broken.out
    assert "no Mosquitto answers" in broken.out
    YAML().dump({"mosquitto": {"url": broker.url}}, config / "provision.yaml")
    assert (await gateway("provision", "plan", "--json")).json["steps"] == steps[1:]
    assert (await gateway("provision", "apply")).code == 0
    assert (await gateway("provision", "plan", "--json")).json["steps"] == []


async def test_a_running_gateway_refuses_whom_a_cohort_was_closed_for(
    gateway: Gateway, config: Path, broker: SecureMosquitto, tmp_path: Path
) -> None:
    """As soon as a cohort is closed the running gateway refuses its messages as `ended`, whoever still sends them."""
    await gateway("cohort", "open", "spring", "--until", "2099-01-31", "birch")
    await let_publish(broker, "anyone")
    async with GatewayProcess(config) as running, await client(running, OPERATOR) as operator:
        await eventually(lambda: "broker connected" in running.log)
        assert (await gateway("cohort", "close", "spring", "--export-to", tmp_path / "export")).code == 0

        async def refused() -> bool:
            async with aiomqtt.Client("127.0.0.1", broker.port, username="anyone", password="anyone") as device:
                await device.publish("testbed/birch/b-1/climate", b'{"temperature": 21.5}', qos=1)
            letters = (await operator.get("/v1/startups/birch/rejections")).json()
            return '"ended"' in json.dumps(letters)

        await eventually(refused, within=20, every=0.2)
        assert await running.terminate() == 0


async def let_publish(broker: SecureMosquitto, user: str) -> None:
    """An account that somebody made by hand; it may publish everything."""
    acl = {"acltype": "publishClientSend", "topic": "testbed/#", "allow": True}
    commands = [
        {"command": "createRole", "rolename": user, "acls": [acl]},
        {"command": "createClient", "username": user, "password": user, "roles": [{"rolename": user}]},
    ]
    async with aiomqtt.Client("127.0.0.1", broker.port, username=ADMIN, password=ADMIN_PASSWORD) as admin:
        await admin.publish("$CONTROL/dynamic-security/v1", json.dumps({"commands": commands}), qos=1)
