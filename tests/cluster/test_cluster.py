"""Two gateway hosts at a cluster of three brokers, under load: a node is killed, a host is killed, a host is drained,
two hosts share a startup. What a broker has acknowledged with QoS 1 is stored. Run by `make test-cluster`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from tests.cluster.rmqtt import PROGRAM, Cluster, is_installed
from tests.hosts import Site, assert_nothing_is_lost, give_secrets, loaded, receives, site
from tests.servers import eventually

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not is_installed(), reason=f"{PROGRAM} is not installed (RMQTTD names another program)"),
]


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with Cluster(tmp_path / "cluster") as three:
        yield three


@pytest.fixture
async def hosts(tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    """North, which serves acme by node 1, and south, which serves voltwise by node 2."""
    give_secrets(monkeypatch)
    async with site(tmp_path, {"north": cluster[1].url, "south": cluster[2].url}) as both:
        yield both


async def test_a_node_is_killed_under_load(hosts: Site, cluster: Cluster) -> None:
    """Devices whose node is killed go on at another one; when the node is back, it serves them again. What it has
    acknowledged in its last second is excused: RMQTT acknowledges a message before it hands it to a session's node."""
    async with loaded(cluster[3], cluster[1]) as load:
        await load.more(300)
        before = load.snapshot()
        await load.more(100)
        await cluster[3].kill()
        load.excuse_since(before)
        await load.more(300)
        await cluster[3].come_back()
        await load.more(300)
    await assert_nothing_is_lost(hosts, load)


async def test_a_host_is_killed_and_started_again(hosts: Site, cluster: Cluster) -> None:
    """The cluster holds what its startup's devices send meanwhile."""
    async with loaded(cluster[3]) as load:
        await load.more(300)
        await hosts["north"].gateway.kill()
        await load.more(300)
        await hosts["north"].start()
        await load.more(300)
    await assert_nothing_is_lost(hosts, load)


async def test_a_host_is_drained_of_a_startup(hosts: Site, cluster: Cluster) -> None:
    """Acme's session moves to the other host, at another node, with what is in it; and back."""
    async with loaded(cluster[3]) as load:
        await load.more(300)
        for name in ("south", "north"):
            before = (await hosts[name].counts("acme")).received
            hosts.map("acme", name)
            await eventually(partial(receives, hosts, name, "acme", before), says=f"{name} receives acme's messages")
            await load.more(300)
    await assert_nothing_is_lost(hosts, load)


async def test_a_lost_host_is_replaced(hosts: Site, cluster: Cluster) -> None:
    """Another host takes over from one that is killed, with what the cluster held; the journal of the killed one is
    stored when it is back."""
    async with loaded(cluster[3]) as load:
        await load.more(300)
        await hosts["north"].gateway.kill()
        await load.more(200)
        hosts.map("acme", "south")
        await eventually(partial(receives, hosts, "south", "acme"), says="south receives acme's messages")
        await load.more(200)
    await hosts["north"].start()
    await assert_nothing_is_lost(hosts, load)


async def test_two_hosts_share_a_startup(hosts: Site, cluster: Cluster) -> None:
    """Each receives a part of its messages; from one host to two and back, nothing is missed."""
    async with loaded(cluster[3]) as load:
        await load.more(200)
        before = (await hosts["north"].counts("acme")).received
        hosts.map("acme", "north", "south")
        await eventually(partial(receives, hosts, "south", "acme", 50), says="south has a part")
        await eventually(partial(receives, hosts, "north", "acme", before + 50), says="north has a part")
        hosts.map("acme", "south")
        await load.more(300)
    await assert_nothing_is_lost(hosts, load)
