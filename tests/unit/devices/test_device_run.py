"""The fleet against real brokers: Mosquitto where it is installed, and amqtt in any case."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from devices.broker import parse
from devices.client import DeviceClient
from devices.fleet import Share, build
from devices.report import Notices, Totals, as_json, overall, table
from devices.run import connect, run
from devices.settings import Settings
from gateway.mqtt.embedded_broker import EmbeddedBroker
from tests.servers import WITHIN, FlakyProxy, Mosquitto, commands, eventually, free_port
from tests.servers.mqtt_clients import client, publish

STARTUPS = ("acme", "voltwise", "greenbed")
QUICK = Settings(period=0.05, first_wait=0.05, longest_wait=0.2, outage_every=0, outage=(0.05, 0.1))

Server = Mosquitto | EmbeddedBroker


@pytest.fixture(params=["mosquitto", "amqtt"])
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Server]:
    broker: Server = Mosquitto(tmp_path) if request.param == "mosquitto" else EmbeddedBroker()
    async with broker:
        yield broker


class Fleet:
    """A running fleet; what its devices complain about is in `heard`."""

    def __init__(self, url: str, settings: Settings = QUICK, devices: int = 2, grace: float = 5) -> None:
        self.heard: list[str] = []
        units = build(STARTUPS, devices, Share(fraction=0.25), "test")
        self.clients = connect(units, parse(url), settings, "test", self.heard.append)
        self.stop = asyncio.Event()
        self._period, self._grace = settings.period, grace

    @property
    def totals(self) -> Totals:
        return overall(self.clients)

    async def run(self) -> None:
        await run(self.clients, self._period, self.stop, self._grace)

    def all_connected(self) -> bool:
        return all(client.counters.connected for client in self.clients)

    def connections(self) -> list[int]:
        return [client.counters.connections for client in self.clients]


@asynccontextmanager
async def running(fleet: Fleet) -> AsyncIterator[Fleet]:
    """The fleet runs inside; afterwards it has come to its end."""
    async with asyncio.TaskGroup() as group:
        group.create_task(fleet.run(), name="fleet")
        try:
            yield fleet
        finally:
            fleet.stop.set()


def command(url: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "devices", "--broker", url, "--json", *arguments]


async def finished(*arguments: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, totals and stderr of a run of the program."""
    done = await commands.run(*arguments)
    return done.code, json.loads(done.out.splitlines()[-1]), done.err


async def first_message(server: Server) -> None:
    """Return when a device has published something."""
    async with asyncio.timeout(WITHIN), client(server, "witness", clean=True) as witness:
        await witness.subscribe("testbed/#", qos=1)
        async for _ in witness.messages:
            return


async def test_program_publishes_and_is_acknowledged(server: Server) -> None:
    """A run of three seconds ends by itself, with every message acknowledged and some of them wrong."""
    code, totals, err = await finished(*command(server.url, "--for", "3s", "--rate", "5", "--outage-every", "0"))
    assert (code, err) == (0, "")
    assert totals["devices"] == 12
    assert totals["published"] == totals["acknowledged"] > 60
    assert 0 < totals["misbehaved"] < totals["acknowledged"]
    assert set(totals["by_startup"]) == set(STARTUPS)
    assert sum(part["acknowledged"] for part in totals["by_startup"].values()) == totals["acknowledged"]


async def test_terminating_the_program_is_a_good_end(server: Server) -> None:
    """SIGTERM ends a run without end: totals are printed, nothing is left unacknowledged, the code is 0."""
    async with commands.started(*command(server.url, "--rate", "20", "--startup", "acme")) as process:
        await first_message(server)
        process.send_signal(signal.SIGTERM)
        done = await commands.output(process)
    totals = json.loads(done.out.splitlines()[-1])
    assert done.code == 0
    assert totals["published"] == totals["acknowledged"] > 0


async def test_program_says_that_the_broker_is_away() -> None:
    """Without a broker the program keeps trying, says once what to check, and ends with code 1."""
    port = free_port()
    code, totals, err = await finished(*command(f"mqtt://127.0.0.1:{port}", "--for", "500ms", "--quiet"))
    assert code == 1
    assert totals["acknowledged"] == 0
    assert err.count("Cannot reach") == 1
    assert f"mqtt://127.0.0.1:{port}" in err
    assert "--broker" in err


async def test_devices_survive_a_restart_of_the_broker(tmp_path: Path) -> None:
    """When the broker comes back, every device does, and sends what it has measured in the meantime."""
    async with Mosquitto(tmp_path) as server, running(Fleet(server.url)) as fleet:
        await eventually(lambda: fleet.all_connected() and fleet.totals.acknowledged > 30)
        await server.stop()
        await comes_back(fleet, server.start)
    assert nothing_is_lost(fleet)
    assert any("Lost the connection" in sentence for sentence in fleet.heard)


async def test_devices_survive_a_cut_network(server: Server) -> None:
    """When the network is cut, devices keep what they measure; when it heals, they send it."""
    async with FlakyProxy.before(server) as network, running(Fleet(network.url)) as fleet:
        await eventually(lambda: fleet.all_connected() and fleet.totals.acknowledged > 30)
        network.cut()
        await comes_back(fleet, network.heal)
    assert nothing_is_lost(fleet)


async def comes_back(fleet: Fleet, heal: Callable[[], Awaitable[None] | None]) -> None:
    """All devices notice that they are offline, and go on measuring; after `heal` all are back."""
    await eventually(lambda: fleet.totals.connected == 0, says="no device is connected")
    made = fleet.totals.made
    await eventually(lambda: fleet.totals.made > made + 20, says="devices go on measuring")
    if (healing := heal()) is not None:
        await healing
    await eventually(fleet.all_connected, says="all devices are connected again")


def nothing_is_lost(fleet: Fleet) -> bool:
    """All that was ever measured is acknowledged."""
    return fleet.totals.made == fleet.totals.published == fleet.totals.acknowledged


async def test_flaky_wifi_loses_nothing(server: Server) -> None:
    """Devices that drop their connection again and again still get every message through."""
    settings = Settings(period=0.05, first_wait=0.05, outage_every=0.3, outage=(0.05, 0.1))
    async with running(Fleet(server.url, settings)) as fleet:
        await eventually(lambda: min(fleet.connections()) >= 3, says="each device has come back twice")
    assert nothing_is_lost(fleet)
    assert fleet.heard == []


async def test_feedback_is_received(server: Server) -> None:
    """A device listens to its feedback topic, counts, and keeps the newest; it shows below the live table."""
    async with running(Fleet(server.url)) as fleet:
        await eventually(fleet.all_connected)
        await publish(server, "feedback/acme/air-01", b"first", b"[red]newest")
        await eventually(lambda: fleet.clients[0].counters.feedback == 2)
    assert fleet.clients[0].counters.newest_feedback == b"[red]newest"
    assert fleet.totals.feedback == 2
    assert str(table(fleet.clients, server.url).caption) == "feedback to acme-air-01: [red]newest"


async def test_mqtt_5(tmp_path: Path) -> None:
    """With protocol 5 the devices publish as they do with 3.1.1."""
    async with Mosquitto(tmp_path) as server:
        unit = build(["acme"], 1, Share(), "test")[0]
        broker = parse(server.url, protocol="5")
        device = DeviceClient(unit, broker, QUICK, Random(1), pytest.fail)
        async with asyncio.TaskGroup() as group:
            group.create_task(device.run(0), name="device")
            await eventually(lambda: device.counters.acknowledged >= 5)
            device.finish()
        assert "p5" in server.log


async def test_rejected_password_is_explained(tmp_path: Path) -> None:
    """A broker that wants a password is not called unreachable: the devices say that it rejected them."""
    async with Mosquitto(tmp_path, conf="allow_anonymous false") as server:
        async with running(Fleet(server.url, devices=1, grace=0)) as fleet:
            await eventually(lambda: bool(fleet.heard))
        assert "rejected the connection" in fleet.heard[0]
        assert "DEVICES_PASSWORD" in fleet.heard[0]


async def test_backlog_is_bounded() -> None:
    """Without a broker a device keeps the newest messages only, and counts what it had to let go."""
    settings = Settings(period=0.01, backlog=5, first_wait=0.05, longest_wait=0.1)
    unit = build(["voltwise"], 1, Share(), "test")[0]
    device = DeviceClient(unit, parse(f"mqtt://127.0.0.1:{free_port()}"), settings, Random(1), lambda _: None)
    task = asyncio.create_task(device.run(0), name="device")
    await eventually(lambda: device.counters.dropped >= 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert device.counters.published == 0


def test_backoff_grows_with_jitter_and_has_a_limit() -> None:
    """Waits double with each failure up to the longest, and two devices rarely wait equally long."""
    settings, rng = Settings(first_wait=1, longest_wait=30), Random(1)
    for failures in range(1000):
        longest = min(30, 2 ** min(failures, 10))
        assert longest / 2 <= settings.wait(failures, rng) <= longest
    assert len({settings.wait(3, rng) for _ in range(100)}) > 90


def test_notices_do_not_repeat_themselves(capsys: pytest.CaptureFixture[str]) -> None:
    """The same sentence from many devices is printed once, another one as well."""
    notices = Notices()
    for sentence in ("a", "b", "a", "b", "a"):
        notices.show(sentence)
    assert capsys.readouterr().err == "devices: a\ndevices: b\n"


async def test_totals_as_json_of_an_idle_fleet() -> None:
    """The totals of a fleet that did nothing are zeros, for every startup."""
    units = build(STARTUPS, 2, Share(), "test")
    idle = connect(units, parse("mqtt://localhost"), QUICK, "test", pytest.fail)
    totals = json.loads(as_json(idle))
    assert totals["by_startup"]["greenbed"]["published"] == totals["published"] == 0
    assert totals["devices"] == 6
