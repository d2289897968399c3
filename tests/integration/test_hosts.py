"""Two gateway hosts at one broker: a startup moves, a host is killed, a host is drained. Real Mosquitto, processes and
kills; nothing that was acknowledged is lost."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from gateway.model import UNROUTED
from tests.hosts import Site, assert_nothing_is_lost, give_secrets, loaded, receives, site
from tests.running import TOKENS
from tests.servers import Mosquitto, commands, eventually
from tests.servers.mqtt_clients import publish

pytestmark = pytest.mark.slow

BIG_QUEUES = "max_queued_messages 0\nmax_inflight_messages 1000\n"


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Mosquitto]:
    async with Mosquitto(tmp_path / "mosquitto", conf=BIG_QUEUES) as one:
        yield one


@pytest.fixture
async def hosts(tmp_path: Path, broker: Mosquitto, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    """North, which serves acme, and south, which serves voltwise by two workers."""
    give_secrets(monkeypatch)
    async with site(tmp_path, {"north": broker.url, "south": broker.url}, {"south": ("--workers", "2")}) as both:
        yield both


async def serves(hosts: Site, name: str, startup: str) -> bool:
    """Return whether a host serves a startup, as its answer over HTTP says."""
    async with hosts[name].client(TOKENS[startup]) as client:
        return (await client.get(f"/v1/startups/{startup}")).status_code == 200


async def test_a_startup_moves_under_load(hosts: Site, broker: Mosquitto) -> None:
    """Acme moves to the other host and back: its session goes with it, every message is stored, each host answers for
    what it serves, and each startup's own readings go on."""
    async with loaded(broker) as load:
        await load.more(300)
        for name in ("south", "north"):
            before = (await hosts[name].counts("acme")).received
            hosts.map("acme", name)
            await eventually(partial(serves, hosts, name, "acme"), says=f"{name} serves acme")
            await load.more(300)
            await eventually(partial(receives, hosts, name, "acme", before), says=f"{name} receives messages of acme")
    await assert_nothing_is_lost(hosts, load)
    async with hosts["south"].client(TOKENS["acme"]) as client:
        answer = await client.get("/v1/startups/acme")
        assert (answer.status_code, answer.json()["url"]) == (421, hosts["north"].url)
        history = await client.get("/v1/startups/acme/telemetry?measurement=climate&start=-2h&limit=3")
        assert (history.status_code, "temperature" in history.text) == (200, True)


async def test_hosts_that_reload_at_different_times(hosts: Site, broker: Mosquitto) -> None:
    """The new host has the changed file, the old one not yet: each takes the session from the other, with growing
    pauses, and says so. When the old one has the file too, that ends, and nothing is lost."""
    async with loaded(broker) as load:
        hosts["south"].map("acme", "south")
        await eventually(
            lambda: all("has another host read a newer" in host.gateway.log for host in hosts.hosts.values()),
            says="each says why",
        )
        await load.more(200)
        hosts["north"].map("acme", "south")
        await eventually(hosts["south"].is_ready, says="south has the session for itself")
        await load.more(200)
    await assert_nothing_is_lost(hosts, load)


async def test_a_host_is_killed_and_its_startup_moves(hosts: Site, broker: Mosquitto) -> None:
    """The new host receives what the broker holds for acme; the killed one, once it is back, stores what is in its
    journal, although it no longer serves acme."""
    async with loaded(broker) as load:
        await load.more(300)
        await hosts["north"].gateway.kill()
        await load.more(200)
        hosts.map("acme", "south")
        await eventually(lambda: serves(hosts, "south", "acme"), says="south serves acme")
        await load.more(200)
    await hosts["north"].start()
    await assert_nothing_is_lost(hosts, load)
    assert (await hosts["south"].counts("acme")).received > 0


async def test_a_host_is_drained(hosts: Site, broker: Mosquitto) -> None:
    """`gateway hosts drain` edits the files; the host stores what it has and serves nothing any more, so that it may be
    switched off. The other host then also looks for messages of no startup."""
    async with loaded(broker) as load:
        await load.more(200)
        for host in hosts.hosts.values():
            drain = (sys.executable, "-m", "gateway", "hosts", "drain", "north", "-c", str(host.gateway.config))
            done = await commands.run(*drain)
            assert done.code == 0, done.err
        await eventually(lambda: serves(hosts, "south", "acme"), says="south serves acme")
        await load.more(200)
        await eventually(hosts["north"].is_ready)
        assert await hosts["north"].gateway.terminate() == 0
        await load.more(200)
    await assert_nothing_is_lost(hosts, load)

    async def is_noticed() -> bool:
        await publish(broker, "testbed/nobody/d1/climate", b"{}")
        return (await hosts["south"].counts(UNROUTED)).rejected > 0

    await eventually(is_noticed, every=0.5, says="south notices messages of no startup")


async def test_mosquitto_is_rejected_for_a_startup_on_several_hosts(hosts: Site, broker: Mosquitto) -> None:
    """It would forget what arrives after its restart: each host says so, nothing is subscribed to, and what was in the
    startup's session stays there until one host has it again."""
    async with loaded(broker) as load:
        await load.more(100)
        hosts.map("acme", "north", "south")
        await eventually(lambda: "Mosquitto forgets them" in hosts["north"].gateway.log)
        await eventually(lambda: "Mosquitto forgets them" in hosts["south"].gateway.log)
        await load.more(100)
        hosts.map("acme", "south")
        await eventually(hosts["south"].is_ready)
    await assert_nothing_is_lost(hosts, load)
