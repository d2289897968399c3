"""The provisioning commands as an operator runs them, against a real Mosquitto with dynamic security."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import stat
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiomqtt
import httpx
import pytest
from ruamel.yaml import YAML

from gateway.api.auth import token_hash
from gateway.provision import startup_files
from gateway.stores.sqlite import SqliteStore
from tests.running import OPERATOR, GatewayProcess, write_config
from tests.servers import WITHIN, FlakyProxy, Influxd, InfluxV2Front, commands, eventually
from tests.servers.dynsec import ADMIN_PASSWORD, SecureMosquitto
from tests.servers.mqtt_clients import connect

Gateway = Callable[..., Awaitable["Finished"]]


class Finished(commands.Finished):
    """A provisioning command that has ended."""

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

    async def run(*arguments: object, password: str = ADMIN_PASSWORD, columns: int = 200) -> Finished:
        environment = {"GATEWAY_PROVISION_MQTT_PASSWORD": password, "COLUMNS": str(columns)}
        command = [sys.executable, "-m", "gateway", *map(str, arguments), "--config", str(config)]
        finished = await commands.run(*command, env=os.environ | environment)
        assert "Traceback" not in finished.err
        return Finished(finished.code, finished.out, finished.err)

    return run


async def signs_in(broker: SecureMosquitto, user: str, password: str) -> bool:
    try:
        async with connect(broker, username=user, password=password):
            return True
    except aiomqtt.MqttError:
        return False


async def client(running: GatewayProcess, token: str) -> httpx.AsyncClient:
    """Return a client of the API of a gateway that has started."""
    (url,) = await eventually(lambda: re.findall(r'"http": ?"([^"]+)"', running.log))
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=WITHIN)


async def test_plan_apply_plan(gateway: Gateway) -> None:
    """The plan lists the steps, the apply does them and prints the credentials, and then there is nothing to do."""
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
        async with connect(broker, username="birch.b-1", password=password) as device:
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


async def stored(config: Path, startup: str, *times: int) -> None:
    store = SqliteStore(config.parent / "state" / "store")
    await store.open()
    await store.write(startup, [b"climate,device=d-1 temperature=1.0 %d" % time_ns for time_ns in times])
    await store.close()


async def test_a_startup_leaves(gateway: Gateway, config: Path, broker: SecureMosquitto, tmp_path: Path) -> None:
    """Its data is exported, its accounts end, its file is gone; the data itself goes only where that is asked for."""
    password = (await gateway("devices", "add", "acme", "d-1", "--json")).secret("acme.d-1")
    await stored(config, "acme", 1)
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


async def test_a_blocked_device_is_held_back_alone(gateway: Gateway, broker: SecureMosquitto, config: Path) -> None:
    """`devices block` ends the device's connection and shuts its account; its neighbour goes on, and a further apply or
    a new password lets nobody in. `unblock` does, with the password that it has."""
    added = await gateway("devices", "add", "acme", "d-1", "d-2", "--json")
    passwords = {name: added.secret(f"acme.{name}") for name in ("d-1", "d-2")}
    async with (
        connect(broker, username="acme.d-1", password=passwords["d-1"]) as blocked,
        connect(broker, username="acme.d-2", password=passwords["d-2"]) as neighbour,
    ):
        ended = asyncio.ensure_future(anext(blocked.messages))
        done = await gateway("devices", "block", "acme", "d-1", "--json")
        assert [(step["name"], step["changes"]) for step in done.json["done"]] == [
            ("acme.d-1", ["blocked: False → True"])
        ]
        with pytest.raises(aiomqtt.MqttError):
            await ended
        await neighbour.publish("testbed/acme/d-2/climate", b"{}", qos=1)
        ended.cancel()
        assert (await gateway("provision", "apply", "--json")).json["done"] == []
        renewed = (await gateway("devices", "password", "acme", "d-1")).out
        password = next(word for word in renewed.split() if len(word) == 24)
        assert not await signs_in(broker, "acme.d-1", password)
        assert "blocked: [d-1]" in (config / "startups" / "acme.yaml").read_text()
        assert (await gateway("devices", "unblock", "acme", "d-1")).code == 0
        assert await signs_in(broker, "acme.d-1", password)
        await neighbour.publish("testbed/acme/d-2/climate", b"{}", qos=1)


async def test_a_device_is_blocked_while_other_servers_are_down(
    gateway: Gateway, broker: SecureMosquitto, config: Path
) -> None:
    """A block waits for the broker alone; a device that is added later to the list is blocked from the start."""
    assert (await gateway("devices", "block", "acme", "d-9")).code == 0
    password = (await gateway("devices", "add", "acme", "d-9", "--json")).secret("acme.d-9")
    assert not await signs_in(broker, "acme.d-9", password)
    away = {"influxdb": {"url": "http://127.0.0.1:9"}, "mosquitto": {"url": broker.url}}
    YAML().dump(away, config / "provision.yaml")
    assert (await gateway("devices", "unblock", "acme", "d-9")).code == 0
    assert await signs_in(broker, "acme.d-9", password)


async def test_a_device_that_left_before_its_startup_is_shut_out_with_it(
    gateway: Gateway, config: Path, broker: SecureMosquitto, tmp_path: Path
) -> None:
    """A device that is no longer in the file keeps its account until --prune, and not beyond its startup."""
    added = await gateway("devices", "add", "acme", "d-1", "d-2", "--json")
    file = config / "startups" / "acme.yaml"
    file.write_text(re.sub(r"(?m)^devices:.*(\n *- .*)*\n", "devices: [d-2]\n", file.read_text()))
    plan = (await gateway("provision", "plan", "--json")).json
    assert "acme.d-1" in {one["name"] for one in plan["leftover"]}
    assert await signs_in(broker, "acme.d-1", added.secret("acme.d-1"))
    assert (await gateway("startups", "remove", "acme", "--export-to", tmp_path / "export")).code == 0
    for device in ("acme.d-1", "acme.d-2"):
        assert not await signs_in(broker, device, added.secret(device))
    assert (await gateway("provision", "plan", "--json")).json["leftover"] == []


async def test_a_cohort_opens_and_closes(
    gateway: Gateway, config: Path, broker: SecureMosquitto, tmp_path: Path
) -> None:
    """Two startups join with one command; closed, they are exported, shut out, rejected as `ended`, and their files
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


async def test_a_cohort_is_deleted_only_as_it_was_exported(gateway: Gateway, config: Path, tmp_path: Path) -> None:
    """An export from before the end is not taken for that of the end: nothing is done until there is room for a new
    one. Closed again, the export is not made again. With --delete-data the embedded store's file goes."""
    await gateway("cohort", "open", "spring", "--until", "2099-01-31", "birch")
    await stored(config, "birch", 1)
    target, database = tmp_path / "export" / "birch", config.parent / "state" / "store" / "birch.db"
    await gateway("startups", "export", "birch", "--export-to", target)
    await stored(config, "birch", 2)
    close = ("cohort", "close", "spring", "--export-to", tmp_path / "export")
    stale = await gateway(*close, "--delete-data")
    assert stale.code == 1
    assert f"{target}: expected an empty directory" in stale.err
    assert database.exists()
    assert "2099-01-31" in (config / "startups" / "birch.yaml").read_text()
    target.rename(tmp_path / "before")
    assert "exported 2 readings" in (await gateway(*close)).err
    again = await gateway(*close, "--delete-data")
    assert again.code == 0
    assert "exported" not in again.err
    assert not database.exists()


async def test_what_a_startup_left_in_the_embedded_store_is_not_deleted(
    gateway: Gateway, config: Path, tmp_path: Path
) -> None:
    """A startup that moved to an InfluxDB is exported from there: --delete-data leaves the older readings, which no
    export has."""
    path = config / "gateway.yaml"
    settings = YAML(typ="safe").load(path)
    await gateway("cohort", "open", "spring", "--until", "2099-01-31", "birch")
    await stored(config, "birch", 1)
    async with Influxd(tmp_path / "influxd") as influxd, InfluxV2Front(influxd, buckets=["birch"]) as front:
        (tmp_path / "east.token").write_text(front.token)
        east = {"url": front.url, "org": front.org, "token_file": str(tmp_path / "east.token")}
        settings["stores"] = {"east": {"kind": "influxdb", "influxdb": east}}
        path.write_text(json.dumps(settings))
        birch = config / "startups" / "birch.yaml"
        birch.write_text("store: east\n" + birch.read_text())
        closed = await gateway("cohort", "close", "spring", "--export-to", tmp_path / "export", "--delete-data")
    assert closed.code == 0
    assert "exported 0 readings" in closed.err
    assert (config.parent / "state" / "store" / "birch.db").exists()


async def test_nothing_that_is_shown_once_is_lost(gateway: Gateway, tmp_path: Path) -> None:
    """Where the hand-out cannot be written the secrets are printed all the same, and names too long for the terminal
    are folded. The output has all that stands in the hand-out."""
    (tmp_path / "file").write_text("")
    device = "d" * 64
    made = await gateway(
        "startups", "add", "birch", "--name", "Birch", "--device", device, "--handouts", tmp_path / "file", columns=60
    )
    assert made.code == 1
    assert "birch.md: the hand-out cannot be written" in made.err
    assert "…" not in made.out
    assert made.out.count("d") >= len(device)
    for part in ("mqtt://", "testbed/birch/{device}/climate", "feedback/birch/{device}", "feeds/birch/", "http://"):
        assert part in made.out


async def test_a_hand_out_is_for_its_owner_alone(gateway: Gateway, tmp_path: Path) -> None:
    """Also where a file of its name already exists, which others may read."""
    page = tmp_path / "birch.md"
    page.write_text("of last year")
    page.chmod(0o644)
    assert (await gateway("startups", "add", "birch", "--name", "Birch", "--handouts", tmp_path)).code == 0
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    assert "last year" not in page.read_text()


@pytest.mark.parametrize("command", [("startups", "add", "birch", "--name", "x"), ("cohort", "open", "x", "birch")])
async def test_a_last_day_that_is_over_is_reported(gateway: Gateway, config: Path, command: tuple[str, ...]) -> None:
    """A startup whose last day is over does not join: no file is written."""
    wrong = await gateway(*command, "--until", "2020-01-31")
    assert wrong.code == 2
    assert "expected today or a later day" in wrong.err
    assert not (config / "startups" / "birch.yaml").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("startups", "add", "Acme", "--name", "x"), "expected a slug"),
        (("startups", "add", "acme", "--name", "x"), "already exists"),
        (("startups", "add", "gateway", "--name", "x"), "the name of the gateway's MQTT account"),
        (("startups", "add", "admin", "--name", "x"), "the name of the broker's admin"),
        (("startups", "add", "testbed-gateway", "--name", "x"), "the name of the gateway's MQTT session"),
        (("startups", "add", "testbed-gateway-2", "--name", "x"), "the name of the gateway's MQTT session"),
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
        (("cohort", "open", "spring", "--until", "2099-01-31", "birch", "acme"), "acme.yaml already exists"),
        (("devices", "add", "nobody", "d"), "there are: acme, voltwise"),
        (("devices", "add", "acme", "a/b"), "expected a device name"),
        (("devices", "password", "acme", "d-9"), "has no device 'd-9'"),
        (("cohort", "close", "autumn", "--export-to", "x"), "cohort 'autumn' has no startups"),
    ],
)
async def test_mistakes_are_reported(gateway: Gateway, config: Path, arguments: tuple[str, ...], says: str) -> None:
    """A mistake is answered in words with exit status 1, and leaves no file behind."""
    before = sorted((config / "startups").iterdir())
    wrong = await gateway(*arguments)
    assert wrong.code == 1
    assert says in wrong.err
    assert sorted((config / "startups").iterdir()) == before


async def test_a_wrong_password_and_a_server_that_is_down(gateway: Gateway, broker: SecureMosquitto) -> None:
    """Both say what to check; once the server is back, the next plan shows everything that is still to do."""
    rejected = await gateway("provision", "apply", password="wrong")
    assert rejected.code == 1
    assert "check the admin's name and password" in rejected.err
    await broker.stop()
    down = await gateway("provision", "apply")
    assert down.code == 1
    assert f"no Mosquitto answers at 127.0.0.1:{broker.port}" in down.err
    await broker.start()
    assert "+ mosquitto role acme" in (await gateway("provision", "plan")).out


async def test_a_startup_joins_while_the_broker_is_down(
    gateway: Gateway, config: Path, broker: SecureMosquitto
) -> None:
    """Its file is written and its API token printed, since nobody could print it later; the next apply makes the
    rest."""
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


class Watched(FlakyProxy):
    """A network that does something when a word passes for the nth time: `network.at(3, b"word", network.cut)`."""

    def at(self, count: int, word: bytes, act: Callable[[], object]) -> None:
        self._left, self._word, self._act = count, word, act

    async def pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        rest = b""  # the word may be in two reads
        while data := await source.read(65_536):
            before, self._left = self._left, self._left - (rest + data).count(self._word)
            rest = (rest + data)[1 - len(self._word) :]
            if self._left <= 0 < before:
                self._act()
            sink.write(data)
            await sink.drain()


@pytest.mark.slow
async def test_a_failed_run_is_continued_by_the_next(gateway: Gateway, config: Path, broker: SecureMosquitto) -> None:
    """A run that loses the broker half-way says which step failed and how far it came; the next plan shows the rest,
    and the next run does it."""
    steps = (await gateway("provision", "plan", "--json")).json["steps"]
    async with Watched.before(broker) as network:
        network.at(3, b'"createRole"', network.cut)  # asked, answered, asked again
        YAML().dump({"mosquitto": {"url": network.url}}, config / "provision.yaml")
        broken = await gateway("provision", "apply")
    assert broken.code == 1
    assert f"1 of {len(steps)} steps done; run it again to continue" in broken.out
    assert "failed: + mosquitto role acme" in broken.out
    assert "no Mosquitto answers" in broken.out
    YAML().dump({"mosquitto": {"url": broker.url}}, config / "provision.yaml")
    assert (await gateway("provision", "plan", "--json")).json["steps"] == steps[1:]
    assert (await gateway("provision", "apply")).code == 0
    assert (await gateway("provision", "plan", "--json")).json["steps"] == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_an_interrupted_apply_reports_what_was_made(
    gateway: Gateway, config: Path, broker: SecureMosquitto, number: signal.Signals
) -> None:
    """A signal ends the run after the step under way: each account that was made until then is reported with its
    password, and the next run makes and reports the others."""
    devices = [f"d-{one}" for one in range(40)]
    for name in devices:
        await asyncio.to_thread(startup_files.add_device, config / "startups" / "acme.yaml", name)
    environment = os.environ | {"GATEWAY_PROVISION_MQTT_PASSWORD": ADMIN_PASSWORD}
    command = [sys.executable, "-m", "gateway", "provision", "apply", "--json", "--config", str(config)]
    async with Watched.before(broker) as network:
        YAML().dump({"mosquitto": {"url": network.url}}, config / "provision.yaml")
        async with commands.started(*command, env=environment) as process:
            network.at(12, b'"createClient"', lambda: process.send_signal(number))  # six are asked for and answered
            interrupted = await commands.output(process)
    YAML().dump({"mosquitto": {"url": broker.url}}, config / "provision.yaml")
    assert interrupted.code == 1
    first = json.loads(interrupted.out)
    assert first["failed"]["problem"] == "interrupted"
    rest = await gateway("provision", "apply", "--json")
    names = [one["name"] for one in (*first["credentials"], *rest.json["credentials"])]
    assert sorted(names) == sorted(["acme", "voltwise", *(f"acme.{name}" for name in devices)])
    assert rest.json["credentials"]


async def test_a_running_gateway_rejects_a_closed_cohort(
    gateway: Gateway, config: Path, broker: SecureMosquitto, tmp_path: Path
) -> None:
    """As soon as a cohort is closed the running gateway rejects its messages as `ended`, whoever still sends them."""
    await gateway("cohort", "open", "spring", "--until", "2099-01-31", "birch")
    await let_publish(broker, "anyone")
    async with GatewayProcess(config) as running, await client(running, OPERATOR) as operator:
        await eventually(lambda: "broker connected" in running.log)
        assert (await gateway("cohort", "close", "spring", "--export-to", tmp_path / "export")).code == 0

        async def rejected() -> bool:
            async with connect(broker, username="anyone", password="anyone") as device:
                await device.publish("testbed/birch/b-1/climate", b'{"temperature": 21.5}', qos=1)
            kept = (await operator.get("/v1/startups/birch/rejections")).json()
            return '"ended"' in json.dumps(kept)

        await eventually(rejected, every=0.2)
        assert await running.terminate() == 0


async def let_publish(broker: SecureMosquitto, user: str) -> None:
    """Make an account by hand; it may publish everything."""
    acl = {"acltype": "publishClientSend", "topic": "testbed/#", "allow": True}
    await broker.control({"command": "createRole", "rolename": user, "acls": [acl]})
    await broker.control({"command": "createClient", "username": user, "password": user, "roles": [{"rolename": user}]})
