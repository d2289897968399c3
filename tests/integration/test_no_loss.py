"""The promises under faults: nothing acknowledged is lost, and the ledger balances. Real servers, real kills."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.state.dead_letters import NEWEST
from gateway.state.reader import StateReader
from gateway.stores.contract import Query
from gateway.stores.sqlite import SqliteStore
from tests.running import GatewayProcess, climate, write_config
from tests.servers import FlakyProxy, Influxd, InfluxV2Front, Mosquitto, eventually
from tests.servers.mqtt_clients import connect

BIG_QUEUES = "max_queued_messages 0\nmax_inflight_messages 1000\n"


class Publisher:
    """Publishes numbered readings with QoS 1; every tenth is out of range. `acknowledged` are the numbers that the
    broker has acknowledged."""

    def __init__(self, broker: Mosquitto, rate: float) -> None:
        self.acknowledged: list[int] = []
        self.stopped = False
        self._broker = broker
        self._pause = 1 / rate
        self._base_ms = time.time_ns() // 1_000_000 - 3_600_000

    async def run(self) -> None:
        async with connect(self._broker, identifier="publisher") as client:
            number = 0
            while not self.stopped:  # a flag: on Python 3.11 aiomqtt can swallow a cancellation
                device = f"d{number % 7}"
                value = 999 if self.is_bad(number) else 20 + number % 5
                # One ms apart, so that each number is a point of its own.
                payload = climate(value, self._base_ms + number, number)
                await client.publish(f"testbed/acme/{device}/climate", payload, qos=1)
                self.acknowledged.append(number)
                number += 1
                await asyncio.sleep(self._pause)

    async def reaches(self, count: int) -> None:
        """Wait until so many messages are acknowledged."""
        await eventually(lambda: len(self.acknowledged) >= count)

    @staticmethod
    def is_bad(number: int) -> bool:
        return number % 10 == 9


@asynccontextmanager
async def publishing(broker: Mosquitto, rate: float = 500) -> AsyncIterator[Publisher]:
    publisher = Publisher(broker, rate)
    task = asyncio.create_task(publisher.run())
    try:
        yield publisher
    finally:
        publisher.stopped = True
        await task


async def sqlite_numbers(directory: Path) -> set[int]:
    """Return the sequence numbers in the embedded store."""
    store = SqliteStore(directory)
    await store.open()
    everything = Query("climate", 0, 1 << 62)
    rows = [row async for chunk in store.history("acme", everything) for row in chunk]
    await store.close()
    return {int(row.fields["seq"]) for row in rows}


def dead_numbers(state: Path) -> set[int]:
    reader, place = StateReader(state.parent), NEWEST
    numbers: set[int] = set()
    while (page := reader.dead_letters("acme", before=place, limit=1000)).letters:
        numbers |= {json.loads(one.rejection.payload)["seq"] for one in page.letters}
        place = page.letters[-1].place
    return numbers


async def drained(gateway: GatewayProcess, at_least: int) -> bool:
    counts = await gateway.counts()
    return counts.journaled == 0 and counts.received >= at_least


async def waiting(gateway: GatewayProcess, until: float) -> bool:
    """Return whether it is that late, and more than 1,000 readings wait for their store."""
    return time.monotonic() > until and (await gateway.counts()).journaled > 1000


async def journaled_below(gateway: GatewayProcess, bound: int) -> bool:
    return (await gateway.counts()).journaled < bound


@pytest.mark.slow
async def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """The gateway is killed again and again under load: every message that the publisher got acknowledged is in the
    store or in the dead letters, and the ledger balances."""
    async with Mosquitto(tmp_path / "mosquitto", conf=BIG_QUEUES) as broker:
        gateway = GatewayProcess(write_config(tmp_path / "config", broker.url))
        chance = random.Random(7)
        await gateway.start()
        await eventually(lambda: "broker connected" in gateway.log, says="the gateway is connected")
        async with publishing(broker) as publisher:
            for _ in range(4):
                await publisher.reaches(len(publisher.acknowledged) + chance.randint(200, 600))
                await gateway.kill()
                await gateway.start()
            await publisher.reaches(len(publisher.acknowledged) + 200)
        acknowledged = set(publisher.acknowledged)
        await eventually(lambda: drained(gateway, len(acknowledged)), says="everything is drained")
        assert await gateway.terminate() == 0
        stored = await sqlite_numbers(tmp_path / "state" / "store")
        dead = await asyncio.to_thread(dead_numbers, gateway.database)
        assert acknowledged - stored - dead == set()
        assert {number for number in acknowledged if Publisher.is_bad(number)} <= dead
        assert not any(Publisher.is_bad(number) for number in stored)
        assert (await gateway.counts()).balanced


@pytest.mark.slow
async def test_influxdb_that_is_away_costs_nothing_but_delay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """InfluxDB is killed under load and comes back after several vain attempts to write: every reading arrives there,
    and the ledger balances."""
    monkeypatch.setenv("GATEWAY_INFLUXDB_TOKEN", "test-token")
    async with (
        Mosquitto(tmp_path / "mosquitto", conf=BIG_QUEUES) as broker,
        Influxd(tmp_path / "influxd") as influxd,
        InfluxV2Front(influxd, buckets=["acme", "voltwise"]) as front,
    ):
        store = {"kind": "influxdb", "influxdb": {"url": front.url, "org": front.org, "timeout": "5s"}}
        async with GatewayProcess(write_config(tmp_path / "config", broker.url, store=store)) as gateway:
            await eventually(lambda: "broker connected" in gateway.log, says="the gateway is connected")
            async with publishing(broker) as publisher:
                await eventually(lambda: front.counts["acme"].lines > 200, says="readings arrive in InfluxDB")
                await influxd.kill()
                down = time.monotonic()
                await eventually(lambda: waiting(gateway, down + 8), every=0.5)  # drain.max_backoff is 1 s
                assert (await gateway.counts()).balanced
                await influxd.start()
                await eventually(lambda: journaled_below(gateway, 500), says="it drains")
            good = {number for number in publisher.acknowledged if not Publisher.is_bad(number)}
            await eventually(lambda: drained(gateway, len(publisher.acknowledged)))
            assert await gateway.terminate() == 0
            counts = await gateway.counts()
        rows = await influxd.rows("acme", "SELECT seq FROM climate")
        assert good - {row[1] for row in rows} == set()
        assert counts.balanced
        assert counts.refused == 0
        assert counts.stored == counts.accepted


@pytest.mark.slow
async def test_foreign_answers_and_a_slow_link_cost_nothing_but_delay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy answers writes with its own 400, 413 and 201, then the link to InfluxDB is so slow that no whole batch
    arrives in time: every reading arrives in InfluxDB, none becomes a dead letter, and `/readyz` names the proxy."""
    monkeypatch.setenv("GATEWAY_INFLUXDB_TOKEN", "test-token")
    async with (
        Mosquitto(tmp_path / "mosquitto", conf=BIG_QUEUES) as broker,
        Influxd(tmp_path / "influxd") as influxd,
        InfluxV2Front(influxd, buckets=["acme", "voltwise"]) as front,
        FlakyProxy.before(front) as network,
    ):
        store = {"kind": "influxdb", "influxdb": {"url": network.url, "org": front.org, "timeout": "1s"}}
        async with GatewayProcess(write_config(tmp_path / "config", broker.url, store=store)) as gateway:
            await eventually(lambda: "broker connected" in gateway.log, says="the gateway is connected")
            async with publishing(broker, rate=2000) as publisher:
                for status in (400, 413, 201):
                    with front.hidden_by(status, "<html>nginx</html>"):
                        asked = front.counts["acme"].asked
                        await eventually(lambda asked=asked: front.counts["acme"].asked > asked + 3)  # type: ignore[misc]
                        await publisher.reaches(len(publisher.acknowledged) + 500)
                        assert (await gateway.counts()).stored == 0
                network.slow_down(50_000)
                await publisher.reaches(4000)
            assert "Server: nginx/1.22.1" in gateway.log
            good = {number for number in publisher.acknowledged if not Publisher.is_bad(number)}
            await eventually(lambda: drained(gateway, len(publisher.acknowledged)))
            assert await gateway.terminate() == 0
            counts = await gateway.counts()
        rows = await influxd.rows("acme", "SELECT seq FROM climate")
        assert good - {row[1] for row in rows} == set()
        assert (counts.refused, counts.balanced) == (0, True)


async def test_sigterm_drains_and_exits_0(tmp_path: Path) -> None:
    """SIGTERM under load: what was taken is stored, the exit status is 0, and the next run goes on where it stopped."""
    async with Mosquitto(tmp_path / "mosquitto", conf=BIG_QUEUES) as broker:
        gateway = GatewayProcess(write_config(tmp_path / "config", broker.url))
        await gateway.start()
        await eventually(lambda: "broker connected" in gateway.log, says="the gateway is connected")
        async with publishing(broker) as publisher:
            await eventually(lambda: len(publisher.acknowledged) > 300)
            assert await gateway.terminate() == 0
            counts = await gateway.counts()
            assert counts.balanced
            assert counts.journaled == 0
            await gateway.start()
            await eventually(lambda: gateway.log.count("broker connected") == 2)
        await eventually(lambda: drained(gateway, len(publisher.acknowledged)))
        assert await gateway.terminate() == 0
        stored = await sqlite_numbers(tmp_path / "state" / "store")
        assert {n for n in publisher.acknowledged if not Publisher.is_bad(n)} <= stored
