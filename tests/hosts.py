"""Several gateway hosts for tests: each a process of its own with its own state, before one broker and one InfluxDB.

A host has its own copy of the configuration, as it would from git: a test says which of them has read a change.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import aiomqtt
import httpx
import pytest
from ruamel.yaml import YAML

from gateway.model import Counts
from tests.running import OPERATOR, TOKENS, GatewayProcess, climate, write_config
from tests.servers import WITHIN, Influxd, InfluxV2Front, eventually, free_port
from tests.servers.mqtt_clients import Broker, connect

STARTUPS = tuple(TOKENS)
RESEND_AFTER = 10.0
"""Seconds without an answer after which a device sends again; aiomqtt does not notice a lost connection meanwhile."""


class Host:
    """One host: its configuration and its gateway."""

    def __init__(
        self, name: str, directory: Path, broker: str, port: int, options: Sequence[str], others: Mapping[str, object]
    ) -> None:
        self.name = name
        self._options = options
        self.url = f"http://127.0.0.1:{port}"
        http = {"listen": f"127.0.0.1:{port}", "console": False}
        self.gateway = GatewayProcess(write_config(directory / "config", broker, http=http, **others))

    async def start(self) -> None:
        await self.gateway.start("--host", self.name, *self._options)
        await eventually(self.answers, says=f"{self.name} answers")

    async def answers(self) -> bool:
        try:
            async with self.client() as client:
                return (await client.get("/healthz")).status_code == 200
        except httpx.TransportError:
            return False

    async def is_ready(self) -> bool:
        """Return whether it is ready, and the session of each of its startups works."""
        async with self.client() as client:
            found = (await client.get("/readyz")).json()
        return bool(found["ready"] and found["parts"]["sessions"]["ok"])

    def client(self, token: str = OPERATOR) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, headers={"Authorization": f"Bearer {token}"}, timeout=WITHIN)

    def map(self, startup: str, *hosts: str) -> None:
        """Change the hosts of a startup in this host's files; its gateway reloads them by itself."""
        path = self.gateway.config / "startups" / f"{startup}.yaml"
        document = YAML().load(path)
        document["host"] = list(hosts)
        new = path.with_suffix(".new")
        YAML().dump(document, new)
        new.replace(path)

    async def counts(self, startup: str) -> Counts:
        return await self.gateway.counts(startup)


class Site:
    """Hosts, and what they have stored."""

    def __init__(self, hosts: Sequence[Host], influxd: Influxd) -> None:
        self.hosts = {host.name: host for host in hosts}
        self._influxd = influxd

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def map(self, startup: str, *hosts: str) -> None:
        """Change the hosts of a startup on every host."""
        for host in self.hosts.values():
            host.map(startup, *hosts)

    async def stored(self, startup: str) -> set[int]:
        """Return the numbers in a startup's bucket."""
        return {int(row[1]) for row in await self._influxd.rows(startup, "SELECT seq FROM climate")}

    async def has_stored(self, acknowledged: Mapping[str, set[int]]) -> bool:
        """Return whether all that was acknowledged is in the buckets; AssertionError says what is missing."""
        missing = {slug: sorted(numbers - await self.stored(slug)) for slug, numbers in acknowledged.items()}
        assert not any(missing.values()), f"missing: {missing}"
        return True

    async def counts(self, startup: str) -> Counts:
        """Return the ledger of a startup, of all hosts together."""
        found = Counts()
        for host in self.hosts.values():
            found += await host.counts(startup)
        return found

    async def is_drained(self) -> bool:
        """Return whether no host's journal holds anything."""
        return not any([(await self.counts(slug)).journaled for slug in STARTUPS])


@asynccontextmanager
async def site(
    directory: Path, brokers: Mapping[str, str], options: Mapping[str, Sequence[str]] | None = None
) -> AsyncIterator[Site]:
    """Run a gateway on each host: `brokers` are the URLs that they connect to, by host, `options` those of
    `gateway run`. Acme is the first host's, voltwise the last one's."""
    async with AsyncExitStack() as stack:
        influxd = await stack.enter_async_context(Influxd(directory / "influxd"))
        front = await stack.enter_async_context(InfluxV2Front(influxd, buckets=list(STARTUPS)))
        ports = {name: free_port() for name in brokers}
        others = {
            "hosts": {name: {"url": f"http://127.0.0.1:{port}"} for name, port in ports.items()},
            "store": {"kind": "influxdb", "influxdb": {"url": front.url, "org": front.org, "timeout": "5s"}},
        }
        names = list(brokers)
        hosts = []
        for name, url in brokers.items():
            host = Host(name, directory / name, url, ports[name], (options or {}).get(name, ()), others)
            host.map("acme", names[0])
            host.map("voltwise", names[-1])
            stack.push_async_callback(host.gateway.end)
            hosts.append(host)
        one = Site(hosts, influxd)
        for host in hosts:
            await host.start()
        for host in hosts:
            await eventually(host.is_ready, says=f"{host.name} is ready")
        yield one


class Load:
    """Publishes numbered readings of every startup with QoS 1, to the first of the brokers that takes them; what is not
    acknowledged is sent again to the next one. `acknowledged` are the numbers that a broker has acknowledged, by
    startup."""

    def __init__(self, brokers: Sequence[Broker], rate: float) -> None:
        self.acknowledged: dict[str, set[int]] = {slug: set() for slug in STARTUPS}
        self.is_stopped = False
        self._brokers = list(brokers)
        self._pause = 1 / rate
        self._base_ms = time.time_ns() // 1_000_000 - 3_600_000

    @property
    def count(self) -> int:
        return sum(map(len, self.acknowledged.values()))

    async def more(self, count: int) -> None:
        """Wait until so many more messages are acknowledged."""
        enough = self.count + count
        await eventually(lambda: self.count >= enough, says=f"{count} more messages are acknowledged")

    def snapshot(self) -> dict[str, set[int]]:
        """Return what is acknowledged so far."""
        return {slug: set(numbers) for slug, numbers in self.acknowledged.items()}

    def excuse_since(self, snapshot: Mapping[str, set[int]]) -> None:
        """Expect nothing of what was acknowledged since a snapshot: the broker's fault."""
        for slug, numbers in self.acknowledged.items():
            numbers &= snapshot[slug]

    async def run(self) -> None:
        number = 0
        while not self.is_stopped:  # a flag: on Python 3.11 aiomqtt can swallow a cancellation
            with suppress(aiomqtt.MqttError):
                async with connect(self._brokers[0]) as client:
                    while not self.is_stopped:
                        await self._publish(client, number)
                        number += 1
                        await asyncio.sleep(self._pause)
            self._brokers.append(self._brokers.pop(0))
            await asyncio.sleep(0.05)

    async def _publish(self, client: aiomqtt.Client, number: int) -> None:
        for slug in STARTUPS:
            payload = climate(20 + number % 5, self._base_ms + number, number)
            await client.publish(f"testbed/{slug}/d{number % 5}/climate", payload, qos=1, timeout=RESEND_AFTER)
            self.acknowledged[slug].add(number)


@asynccontextmanager
async def loaded(*brokers: Broker, rate: float = 100) -> AsyncIterator[Load]:
    """Publish until the block ends."""
    load = Load(brokers, rate)
    task = asyncio.create_task(load.run())
    try:
        yield load
    finally:
        load.is_stopped = True
        await task


def give_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every host the tokens of the startups and of the store, as its environment."""
    for slug, token in TOKENS.items():
        monkeypatch.setenv(f"GATEWAY_TOKEN_{slug.upper()}", token)
    monkeypatch.setenv("GATEWAY_INFLUXDB_TOKEN", "test-token")


async def receives(hosts: Site, name: str, startup: str, than: int = 0) -> bool:
    """Return whether a host has received more of a startup than this."""
    return (await hosts[name].counts(startup)).received > than


async def assert_nothing_is_lost(hosts: Site, load: Load) -> None:
    """Wait until all that was acknowledged is stored, and the journals are empty; check the ledgers."""
    acknowledged = load.acknowledged
    await eventually(lambda: hosts.has_stored(acknowledged), every=0.2, says="all that was acknowledged is stored")
    await eventually(hosts.is_drained, every=0.1, says="the journals are empty")
    for slug in STARTUPS:
        counts = await hosts.counts(slug)
        assert counts.balanced
        assert counts.received >= len(acknowledged[slug])
