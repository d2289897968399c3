"""Several workers behind one supervisor: nothing is lost when one is killed, everybody sees everything, and fewer take
over from more. Real Mosquitto, real processes, real kills."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.model import Counts
from gateway.state import ledger
from gateway.state.database import FILE_NAME, read_only
from gateway.state.workers import RETIRED, home
from gateway.stores.contract import Query
from gateway.stores.sqlite import SqliteStore
from gateway.timestamps import from_rfc3339
from tests.running import OPERATOR, GatewayProcess, climate, write_config
from tests.servers import WITHIN, Mosquitto, eventually, free_port
from tests.servers.children import lives
from tests.servers.mqtt_clients import connect

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc").exists(), reason="worker processes are found in /proc"),
]

BIG_QUEUES = "max_queued_messages 0\nmax_inflight_messages 1000\n"


class Site:
    """A gateway of several processes, its broker, and how to look at it."""

    def __init__(self, directory: Path, broker: Mosquitto) -> None:
        port = free_port()
        http = {"listen": f"127.0.0.1:{port}", "console": False}
        self.broker = broker
        self.directory = directory
        self.gateway = GatewayProcess(write_config(directory / "config", broker.url, http=http))
        self.url = f"http://127.0.0.1:{port}"
        self._base_ms = time.time_ns() // 1_000_000 - 3_600_000

    async def ready(self) -> bool:
        try:
            async with self.client() as client:
                return (await client.get("/readyz")).status_code == 200
        except httpx.TransportError:
            return False

    def client(self, token: str = OPERATOR) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=WITHIN)

    async def start(self, workers: int) -> None:
        await self.gateway.start("--workers", str(workers))
        await eventually(self.ready, says="all workers are ready")

    async def publish(self, numbers: range, *, bad: bool = False) -> None:
        """Readings with these numbers, each acknowledged by the broker."""
        async with connect(self.broker) as client:
            for number in numbers:
                payload = climate(999 if bad else 20, self._base_ms + number, number)
                await client.publish(f"testbed/acme/d{number % 5}/climate", payload, qos=1)

    async def stored(self) -> set[int]:
        """Return the numbers in the store."""
        store = SqliteStore(self.directory / "state" / "store")
        await store.open()
        rows = [row async for chunk in store.history("acme", Query("climate", 0, 1 << 62)) for row in chunk]
        await store.close()
        return {int(row.fields["seq"]) for row in rows}

    async def all_stored(self, count: int) -> bool:
        counts = await self.gateway.counts()
        return counts.journaled == 0 and len(await self.stored()) >= count


@pytest.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    monkeypatch.setenv("GATEWAY_TOKEN_ACME", "acme-token")
    async with Mosquitto(tmp_path / "mosquitto", conf=BIG_QUEUES) as broker:
        one = Site(tmp_path, broker)
        yield one
        await one.gateway.end()


async def listen(site: Site, kinds: list[str], connected: asyncio.Event) -> None:
    """Note the kind of each live event of acme."""
    async with site.client("acme-token") as client, client.stream("GET", "/v1/startups/acme/live") as answer:
        connected.set()
        async for line in answer.aiter_lines():
            kinds += re.findall("^event: (.*)", line)


async def test_a_worker_that_is_killed_under_load_loses_nothing(site: Site) -> None:
    """One of two workers is killed again and again under load: every message that was acknowledged to its publisher is
    stored, the killed worker comes back by itself, its journal is drained, and the ledger balances."""
    await site.start(2)
    publishing = asyncio.create_task(site.publish(range(3000)))
    killed: set[int] = set()
    for _ in range(3):
        await eventually(partial(more, site, (await site.gateway.counts()).received + 100))
        killed.add(await site.gateway.kill_worker(1, other_than=killed))
    await site.gateway.worker(1, other_than=killed)
    await publishing
    await eventually(lambda: site.all_stored(3000), says="everything is stored")
    assert await site.stored() == set(range(3000))
    counts = await site.gateway.counts()
    assert counts.balanced
    assert counts.received >= 3000
    assert "worker ended" in site.gateway.log
    assert await site.gateway.terminate() == 0


async def more(site: Site, than: int) -> bool:
    return (await site.gateway.counts()).received > than


async def test_every_client_sees_the_events_of_every_worker(site: Site) -> None:
    """The workers share the messages; a listener at the supervisor gets all of them, rejections too; devices, ledger,
    dead letters and metrics are those of all workers."""
    await site.start(2)
    kinds: list[str] = []
    connected = asyncio.Event()
    listening = asyncio.create_task(listen(site, kinds, connected))
    await connected.wait()
    await site.publish(range(300))
    await site.publish(range(300, 340), bad=True)
    await eventually(lambda: len(kinds) >= 340, says="all events are seen")
    listening.cancel()
    assert (kinds.count("reading"), kinds.count("rejection")) == (300, 40)
    shares = [(await worker_counts(site, worker)).received for worker in (0, 1)]
    assert sum(shares) == 340
    assert min(shares) > 100
    async with site.client("acme-token") as client:
        about = (await client.get("/v1/startups/acme")).json()
        assert about["ledger"]["received"] == 340
        await eventually(lambda: devices_add_up(client, 300), says="the workers have reported their devices")
    async with site.client() as client:
        page = (await client.get("/metrics")).text
    assert set(re.findall(r'gateway_batch_messages_count\{worker="(\d)"\}', page)) == {"0", "1"}
    assert 'gateway_received_records_total{startup="acme"} 340.0' in page


async def devices_add_up(client: httpx.AsyncClient, accepted: int) -> bool:
    devices = (await client.get("/v1/startups/acme/devices")).json()["devices"]
    assert [one["device"] for one in devices] == [f"d{n}" for n in range(5)]
    return bool(sum(one["accepted"] for one in devices) == accepted)


async def worker_counts(site: Site, worker: int) -> Counts:
    path = home(site.gateway.database.parent, worker) / FILE_NAME
    return (await asyncio.to_thread(read_only, path, ledger.balance))["acme"]


async def test_dead_letters_of_all_workers_are_one_list(site: Site) -> None:
    """They come in pages from the newest to the oldest, none twice and none left out, and each can be replayed by the
    worker that keeps it."""
    await site.start(2)
    await site.publish(range(20), bad=True)
    await eventually(lambda: rejected(site, 20), says="all are refused")
    seen: list[dict[str, Any]] = []
    async with site.client("acme-token") as client:
        url = "/v1/startups/acme/rejections?limit=7"
        answer = (await client.get(url)).json()
        seen += answer["rejections"]
        while answer["next"]:
            answer = (await client.get(f"{url}&before={answer['next']}")).json()
            seen += answer["rejections"]
        arrived = [from_rfc3339(one["arrived"]) or 0 for one in seen]
        assert arrived == sorted(arrived, reverse=True)
        assert sorted(json.loads(one["payload"])["seq"] for one in seen) == list(range(20))
        assert {one["id"] % 1000 for one in seen} == {0, 1}
        ids = [one["id"] for one in seen]
        replayed = (await client.post("/v1/startups/acme/rejections/replay", json={"ids": ids})).json()["results"]
        assert [one["result"] for one in replayed] == ["rejected again"] * 20
        assert (await client.post("/v1/startups/acme/rejections/replay", json={"ids": ids[:1]})).json()["results"] == [
            {"id": ids[0], "result": "not found"}
        ]


async def rejected(site: Site, count: int) -> bool:
    return (await site.gateway.counts()).rejected >= count


async def test_fewer_workers_take_over_from_more(site: Site) -> None:
    """What the broker holds for a worker that is no longer there is taken when the gateway starts with fewer; then its
    session no longer gets anything, and the next start is one process alone. Going up again, each message comes
    once."""
    await site.start(3)
    await site.publish(range(30))
    await eventually(lambda: site.all_stored(30))
    assert await site.gateway.terminate() == 0
    await site.publish(range(30, 90))  # shared among three sessions that are away
    await site.start(1)
    await eventually(lambda: site.all_stored(90), says="what waited for the others is stored")
    state = site.gateway.database.parent
    await eventually(
        lambda: all((home(state, worker) / RETIRED).exists() for worker in (1, 2)), says="the others have retired"
    )
    await site.publish(range(90, 120))
    await eventually(lambda: site.all_stored(120))
    assert await site.gateway.terminate() == 0
    await site.start(1)
    assert site.gateway.workers() == {}
    await site.publish(range(120, 150))
    await eventually(lambda: site.all_stored(150))
    assert await site.gateway.terminate() == 0
    await site.start(2)
    await site.publish(range(150, 200))
    await eventually(lambda: site.all_stored(200))
    assert await site.gateway.terminate() == 0
    counts = await site.gateway.counts()
    assert counts.balanced
    assert counts.received == 200  # nothing came twice: no session got the messages unshared


async def test_the_workers_end_with_their_supervisor(site: Site) -> None:
    """A supervisor that is killed leaves no worker behind."""
    await site.start(2)
    pids = list(site.gateway.workers().values())
    await site.gateway.kill()
    await eventually(lambda: not any(map(lives, pids)), says="the workers have ended")
