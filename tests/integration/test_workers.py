"""Several workers behind one supervisor: nothing is lost when one is killed, everybody sees everything, and fewer take
over from more. Real Mosquitto, real processes, real kills."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.api.auth import Tokens
from gateway.config import Loader
from gateway.errors import StateUnavailable
from gateway.model import Counts
from gateway.runtime.supervisor import Supervisor
from gateway.state import ledger
from gateway.state.database import FILE_NAME, read_only
from gateway.state.lock import locked
from gateway.state.workers import RETIRED, home
from gateway.stores.contract import Query
from gateway.stores.sqlite import SqliteStore
from gateway.timestamps import from_rfc3339
from tests.hosts import Load, loaded
from tests.running import OPERATOR, TOKENS, GatewayProcess, climate, workers_of, write_config
from tests.servers import WITHIN, Mosquitto, eventually, free_port
from tests.servers.children import lives
from tests.servers.mqtt_clients import connect

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc").exists(), reason="worker processes are found in /proc"),
]

STARTUPS = ("acme", "voltwise")
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
        """Readings with these numbers, the even ones of acme and the odd ones of voltwise, each acknowledged by the
        broker."""
        async with connect(self.broker) as client:
            for number in numbers:
                payload = climate(999 if bad else 20, self._base_ms + number, number)
                await client.publish(f"testbed/{STARTUPS[number % 2]}/d{number % 5}/climate", payload, qos=1)

    async def stored(self) -> set[int]:
        """Return the numbers in the store."""
        return {number for slug in STARTUPS for number in await self.stored_of(slug)}

    async def stored_of(self, slug: str) -> set[int]:
        """Return the numbers of one startup in the store."""
        store = SqliteStore(self.directory / "state" / "store")
        await store.open()
        query = Query("climate", 0, 1 << 62)
        rows = [row async for chunk in store.history(slug, query) for row in chunk]
        await store.close()
        return {int(row.fields["seq"]) for row in rows}

    async def has_stored(self, load: Load) -> bool:
        """Return whether all that the broker has acknowledged is stored; AssertionError says how much is missing."""
        missing = {slug: len(numbers - await self.stored_of(slug)) for slug, numbers in load.acknowledged.items()}
        assert not any(missing.values()), f"missing: {missing}"
        return (await self.counts()).journaled == 0

    async def counts(self) -> Counts:
        """Return the ledger of both startups together."""
        return Counts.total({slug: await self.gateway.counts(slug) for slug in STARTUPS})

    async def all_stored(self, count: int) -> bool:
        return (await self.counts()).journaled == 0 and len(await self.stored()) >= count


@pytest.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    for slug in STARTUPS:
        monkeypatch.setenv(f"GATEWAY_TOKEN_{slug.upper()}", f"{slug}-token")
    async with Mosquitto(tmp_path / "mosquitto", conf=BIG_QUEUES) as broker:
        one = Site(tmp_path, broker)
        yield one
        await one.gateway.end()


@asynccontextmanager
async def supervising(site: Site, workers: int) -> AsyncIterator[None]:
    """Run the supervisor in this process."""
    loader = Loader(site.gateway.config)
    loaded = await asyncio.to_thread(loader.load)
    supervisor = await asyncio.to_thread(Supervisor, loaded, Tokens(dict(TOKENS), OPERATOR), loader, workers)
    running = asyncio.create_task(supervisor.run())
    try:
        await eventually(site.ready, says="all workers are ready")
        yield
    finally:
        supervisor.stop()
        await running


async def listen(site: Site, slug: str, kinds: list[str], connected: asyncio.Event) -> None:
    """Note the kind of each live event of a startup."""
    url = f"/v1/startups/{slug}/live"
    async with site.client(f"{slug}-token") as client, client.stream("GET", url) as answer:
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
        await eventually(partial(more, site, (await site.counts()).received + 100))
        killed.add(await site.gateway.kill_worker(1, other_than=killed))
    await site.gateway.worker(1, other_than=killed)
    await publishing
    await eventually(lambda: site.all_stored(3000), says="everything is stored")
    assert await site.stored() == set(range(3000))
    counts = await site.counts()
    assert counts.balanced
    assert counts.received >= 3000
    assert "worker ended" in site.gateway.log
    assert await site.gateway.terminate() == 0


async def test_a_worker_that_hangs_is_replaced(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that is stopped under load is killed after a while, and another takes its place. Every message that was
    acknowledged to its publisher is stored."""
    monkeypatch.setattr("gateway.runtime.pulse.HUNG_AFTER", 3)
    async with supervising(site, 2):
        publishing = asyncio.create_task(site.publish(range(2000)))
        await eventually(partial(more, site, 200))
        stopped = workers_of(os.getpid())[1]
        os.kill(stopped, signal.SIGSTOP)
        with pytest.raises(StateUnavailable, match="another gateway"):
            await asyncio.to_thread(locked(home(site.gateway.database.parent, 1)).__enter__)
        await publishing
        await eventually(lambda: workers_of(os.getpid()).get(1, stopped) != stopped, says="another has taken its place")
        assert not lives(stopped)
        await eventually(lambda: site.all_stored(2000), says="everything is stored")
        assert await site.stored() == set(range(2000))
        assert (await site.counts()).balanced
        await eventually(site.ready)


async def more(site: Site, than: int) -> bool:
    return (await site.counts()).received > than


async def test_every_client_sees_the_events_of_every_worker(site: Site) -> None:
    """Each worker serves one of the startups; at the supervisor every startup has its own events, rejections too, and
    devices, ledger, dead letters and metrics are those of all workers."""
    await site.start(2)
    kinds: dict[str, list[str]] = {slug: [] for slug in STARTUPS}
    for slug in STARTUPS:
        connected = asyncio.Event()
        listening = asyncio.create_task(listen(site, slug, kinds[slug], connected))
        await connected.wait()
    await site.publish(range(300))
    await site.publish(range(300, 340), bad=True)
    await eventually(lambda: all(len(of) >= 170 for of in kinds.values()), says="all events are seen")
    assert all((of.count("reading"), of.count("rejection")) == (150, 20) for of in kinds.values())
    shares = [await worker_counts(site, worker) for worker in (0, 1)]
    assert sorted((slug, counts.received) for share in shares for slug, counts in share.items()) == [
        ("acme", 170),
        ("voltwise", 170),
    ]
    assert all(len(share) == 1 for share in shares)
    for slug in STARTUPS:
        async with site.client(f"{slug}-token") as client:
            about = (await client.get(f"/v1/startups/{slug}")).json()
            assert about["ledger"]["received"] == 170
            await eventually(partial(devices_add_up, client, slug, 150), says="the workers have reported their devices")
    async with site.client() as client:
        page = (await client.get("/metrics")).text
    assert set(re.findall(r'gateway_batch_messages_count\{worker="(\d)"\}', page)) == {"0", "1"}
    assert 'gateway_received_records_total{startup="acme"} 170.0' in page
    listening.cancel()


async def devices_add_up(client: httpx.AsyncClient, slug: str, accepted: int) -> bool:
    devices = (await client.get(f"/v1/startups/{slug}/devices")).json()["devices"]
    assert [one["device"] for one in devices] == [f"d{n}" for n in range(5)]
    return bool(sum(one["accepted"] for one in devices) == accepted)


async def worker_counts(site: Site, worker: int) -> dict[str, Counts]:
    path = home(site.gateway.database.parent, worker) / FILE_NAME
    return await asyncio.to_thread(read_only, path, ledger.balance)


async def test_dead_letters_of_all_workers_are_one_list(site: Site) -> None:
    """They come in pages from the newest to the oldest, none twice and none left out, and each can be replayed by the
    worker that keeps it."""
    await site.start(2)
    await site.publish(range(20), bad=True)
    await eventually(lambda: rejected(site, 20), says="all are rejected")
    async with site.client() as client:
        seen = [one for slug in STARTUPS for one in await dead_letters(client, slug)]
        assert sorted(json.loads(one["payload"])["seq"] for one in seen) == list(range(20))
        assert {one["id"] % 1000 for one in seen} == {0, 1}
        ids = [one["id"] for one in seen]
        replay = "/v1/operator/rejections/replay"
        replayed = (await client.post(replay, json={"ids": ids})).json()["results"]
        assert [one["result"] for one in replayed] == ["rejected again"] * 20
        assert (await client.post(replay, json={"ids": ids[:1]})).json()["results"] == [
            {"id": ids[0], "result": "not found"}
        ]


async def test_each_worker_keeps_the_types_of_its_startups(site: Site) -> None:
    """The types of all startups are shown, each is forgotten by the worker that has it, and a reload is compared with
    them."""
    await site.start(2)
    await site.publish(range(2))
    await eventually(lambda: site.all_stored(2), says="both are stored")
    async with site.client() as client:
        for slug in STARTUPS:
            assert await types(client, slug) == {"temperature": "float", "seq": "int"}
            file = site.directory / "config" / "startups" / f"{slug}.yaml"
            uncounted = re.sub(r"(?m)^ +seq: /.*\n", "", file.read_text())  # a sequence number has to be an integer
            file.write_text(uncounted.replace("type: int", "type: string"))
        await eventually(lambda: "fields.seq.type" in site.gateway.log, says="the reload says what conflicts")
        for slug in STARTUPS:
            wanted = {"startup": slug, "measurement": "climate", "field": "seq"}
            assert (await client.post("/v1/operator/types/forget", json=wanted)).json() == {"forgotten": 1}
            assert await types(client, slug) == {"temperature": "float"}
        await eventually(lambda: "configuration reloaded" in site.gateway.log, says="the reload is valid now")


async def types(client: httpx.AsyncClient, slug: str) -> dict[str, str]:
    """Return the type of each field of a startup."""
    found = (await client.get(f"/v1/startups/{slug}/types")).json()["types"]
    return {one["field"]: one["type"] for one in found}


async def dead_letters(client: httpx.AsyncClient, slug: str) -> list[dict[str, Any]]:
    """Return all of a startup, page by page."""
    url = f"/v1/startups/{slug}/rejections?limit=7"
    answer = (await client.get(url)).json()
    seen: list[dict[str, Any]] = answer["rejections"]
    while answer["next"]:
        answer = (await client.get(f"{url}&before={answer['next']}")).json()
        seen += answer["rejections"]
    arrived = [from_rfc3339(one["arrived"]) or 0 for one in seen]
    assert arrived == sorted(arrived, reverse=True)
    return seen


async def rejected(site: Site, count: int) -> bool:
    return (await site.counts()).rejected >= count


async def test_operator_releases_the_lane_of_a_worker(site: Site) -> None:
    """A lane whose store refuses everything stops, `/readyz` and `/metrics` say so, and it goes on when an operator
    releases it, whichever worker has it; only then the readings are dead letters."""
    await hold_texts(site)
    await site.start(2)
    await site.publish(range(400))
    async with site.client() as client:

        async def stopped() -> bool:
            return "the lane has stopped" in (await client.get("/readyz")).text

        await eventually(stopped)
        assert 'gateway_lane_stopped{startup="voltwise",worker=' in (await client.get("/metrics")).text
        release = "/v1/operator/lanes/release"
        assert not (await client.post(release, json={"startup": "acme"})).json()["released"]
        await eventually(lambda: stored(site, 200), says="the other startup is stored")
        assert (await site.counts()).refused < 100
        assert (await client.post(release, json={"startup": "voltwise"})).json()["released"]
        await eventually(lambda: refused(site, 200))
        assert (await site.counts()).balanced

        async def goes_on() -> bool:
            return not await stopped()

        await eventually(goes_on, says="the lane goes on")


async def hold_texts(site: Site) -> None:
    """Let voltwise's store hold texts where its rule has numbers, from before the gateway kept the types of fields."""
    store = SqliteStore(site.directory / "state" / "store")
    await store.open()
    await store.write("voltwise", [b'climate,device=old temperature="warm" 1795000000000000000'])
    await store.close()


async def stored(site: Site, count: int) -> bool:
    return (await site.counts()).stored >= count


async def refused(site: Site, count: int) -> bool:
    return (await site.counts()).refused >= count


async def test_fewer_workers_take_over_from_more(site: Site) -> None:
    """The startups of a worker that is no longer there go to the others, with what the broker holds for them; the
    worker retires, and the next start is one process alone. Going up again, each message comes once."""
    await site.start(3)
    await site.publish(range(30))
    await eventually(lambda: site.all_stored(30))
    assert await site.gateway.terminate() == 0
    await site.publish(range(30, 90))  # while all are away
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
    counts = await site.counts()
    assert counts.balanced
    assert counts.received == 200  # nothing came twice


async def test_changes_of_the_number_under_load_lose_nothing(site: Site) -> None:
    """Two workers, then one, then three, while messages are published all the time: each startup's session goes from
    worker to worker, and every message that was acknowledged is stored."""
    await site.start(2)
    async with loaded(site.broker) as load:
        for workers in (1, 3):
            await load.more(100)
            assert await site.gateway.terminate() == 0
            await load.more(50)
            await site.start(workers)
    await eventually(partial(site.has_stored, load), every=0.2, says="all that was acknowledged is stored")
    assert (await site.counts()).balanced


async def test_a_restarted_broker_loses_nothing(site: Site) -> None:
    """Several workers have plain subscriptions, which Mosquitto keeps over a restart, unlike shared ones: what is
    published before a worker has connected again is stored as well."""
    await site.start(2)
    await site.publish(range(100))
    for first in (100, 300):
        await site.broker.stop()
        await site.broker.start()
        await site.publish(range(first, first + 200))  # at once: the workers have to connect first
    await eventually(lambda: site.all_stored(500), says="everything is stored")
    assert await site.stored() == set(range(500))
    assert (await site.counts()).balanced


async def test_the_workers_end_with_their_supervisor(site: Site) -> None:
    """A supervisor that is killed leaves no worker behind."""
    await site.start(2)
    pids = list(site.gateway.workers().values())
    await site.gateway.kill()
    await eventually(lambda: not any(map(lives, pids)), says="the workers have ended")
