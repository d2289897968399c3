"""Test bed under attack: Mosquitto as docker-compose.yml has it, accounts by provisioning, the gateway as a process."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import aiomqtt

from bench import procfs
from bench.children import BenchError, Helper
from tests.attack import messages
from tests.attack.layout import ATTACKER, DEVICES, VICTIM, Layout, token
from tests.harness.check import Check
from tests.running import GatewayProcess
from tests.servers import WITHIN, Influxd, InfluxV2Front, ServerFailed, commands, eventually, free_port
from tests.servers.dynsec import ADMIN, control
from tests.servers.processes import connects
from tests.servers.stack_mosquitto import ADMIN_PASSWORD, StackMosquitto

LOOK = 0.05
SETTLED = 0.3
"""Seconds in which nothing changes when nothing is left to do."""
MOST_BYTES = 6 << 30
"""Bytes that one attack may send."""
RUNAWAY_MIB = 4096
"""Memory of a server at which the attack is ended: it has succeeded, and the machine is needed for more."""
MOST_OPENS = 5_000
"""Connections that one attack on HTTP opens in a second: more use up the ports of the loopback interface."""
ANYWHERE = "anywhere"
"""Account of the attacker that an operator made by hand, and too wide: it may publish on all topics of the test bed."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Size of an attack. `seconds` is how long one lasts that has no end of its own; `share` applies to counts."""

    seconds: float = 8.0
    lead: float = 1.0
    share: float = 1.0

    def of(self, count: int) -> int:
        return max(1, round(count * self.share))


class Bed:
    """Servers, accounts, and what attackers do to them. Everything listens on the loopback interface."""

    def __init__(self, directory: Path, layout: Layout, scale: Scale) -> None:
        self.directory = directory
        self.layout = layout
        self.scale = scale
        self.broker = StackMosquitto(directory)
        self.gateway = GatewayProcess(directory / "config")
        self.http_port = free_port()
        self.reached: list[str] = []
        self.checks: list[Check] = []
        self.peak = {"gateway": 0.0, "broker": 0.0}
        self._influx: InfluxV2Front | None = None
        self._accounts: dict[str, str] = {}
        self._attackers: set[Helper] = set()
        self._names = itertools.count()

    # -------------------------------------------------------------- for scenarios: MQTT

    def topic(self, device: str = DEVICES[0], rest: str = "climate") -> str:
        """Return a topic of the attacker's."""
        return f"testbed/{ATTACKER}/{device}/{rest}"

    @asynccontextmanager
    async def flood(
        self,
        payload: bytes | Callable[[int], bytes],
        *,
        topic: str | Callable[[int], str] = "",
        rest: str = "climate",
        qos: int = 1,
        retained: bool = False,
        rate: float | None = None,
        most: int | None = None,
        connections: int = 1,
        anywhere: bool = False,
        seconds: float | None = None,
    ) -> AsyncIterator[None]:
        """Publish as the attacker, until the block ends or the attack does, at a rate or as fast as the broker reads.

        `payload` and `topic` may depend on the number of the message. Without a topic each connection, which has a
        device's account of its own, publishes to `rest` below that device's name.
        """
        users = [ANYWHERE] * connections if anywhere else [f"{ATTACKER}.{name}" for name in DEVICES[:connections]]
        blocks = [
            messages.block(
                topic or self.topic(user.rpartition(".")[2], rest), payload, qos=qos, retained=retained, most=most
            )
            for user in users
        ]
        async with self.mqtt(blocks, users=users, rate=rate, most=most, what="messages", seconds=seconds):
            yield

    async def publish(self, payload: bytes | Callable[[int], bytes], *, most: int, **options: Any) -> None:
        """Publish `most` messages as the attacker, and return when the gateway is done with them."""
        async with self.flood(payload, most=most, seconds=WITHIN, **options):
            pass
        before: dict[str, Any] = {}
        async with asyncio.timeout(WITHIN):
            while True:
                await asyncio.sleep(SETTLED)
                ledger = (await self.get(f"/v1/startups/{ATTACKER}"))["ledger"]
                if ledger == before and not ledger["journaled"]:
                    return
                before = ledger

    @asynccontextmanager
    async def mqtt(
        self,
        blocks: Sequence[messages.Block],
        *,
        users: Sequence[str],
        what: str,
        again: bool = True,
        hang_up: bool = False,
        opens: float | None = None,
        rate: float | None = None,
        most: int | None = None,
        seconds: float | None = None,
    ) -> AsyncIterator[None]:
        """Connect with accounts of the attacker, and send blocks of packets."""
        hello = [messages.connect(user, self._accounts[user]) for user in users]
        spec: dict[str, Any] = {
            "port": self.broker.port,
            "connections": len(users),
            "rate": rate,
            "most": most,
            "opens": opens,
        }
        async with self.hose(hello, blocks, what, again=again, hang_up=hang_up, seconds=seconds, **spec):
            yield

    # -------------------------------------------------------------- for scenarios: HTTP

    def request(
        self, path: str, *, method: str = "GET", who: str | None = ATTACKER, body: bytes = b"", more: Sequence[str] = ()
    ) -> bytes:
        """Return an HTTP request; `who` is the startup whose token it has."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{self.http_port}", *more]
        lines += [f"Authorization: Bearer {token(who)}"] if who else []
        lines += [f"Content-Length: {len(body)}", "Content-Type: application/json"] if body else []
        return "\r\n".join([*lines, "", ""]).encode() + body

    @asynccontextmanager
    async def http(
        self,
        hello: bytes,
        block: messages.Block | None = None,
        *,
        connections: int,
        what: str = "connections",
        read: int | None = None,
        again: bool = False,
        hang_up: bool = False,
        addresses: int = 1,
        rate: float | None = None,
        most: int | None = None,
    ) -> AsyncIterator[None]:
        """Open connections, send bytes on each, and then a block again and again; `again` reopens those that end."""
        blocks = [block] if block else []
        spec: dict[str, Any] = {
            "port": self.http_port,
            "connections": connections,
            "read": read,
            "again": again,
            "hang_up": hang_up,
        }
        spec |= {"addresses": addresses, "rate": rate, "most": most, "opens": MOST_OPENS}
        async with self.hose([hello], blocks, what, **spec):
            yield

    async def get(self, path: str) -> Any:
        """Return an answer that the attacker gets, as JSON."""
        headers = {"Authorization": f"Bearer {token(ATTACKER)}"}
        async with (
            aiohttp.ClientSession(f"http://127.0.0.1:{self.http_port}", headers=headers) as http,
            http.get(path) as answer,
        ):
            answer.raise_for_status()
            return await answer.json()

    @asynccontextmanager
    async def ask(self, request: bytes, *, parallel: int) -> AsyncIterator[None]:
        """Send a request again and again, `parallel` at a time, each as soon as the answer before it is there."""
        closing = request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
        async with self.http(closing, connections=parallel, what="requests", again=True):
            yield

    # -------------------------------------------------------------- for scenarios: more

    @property
    def influx(self) -> InfluxV2Front:
        """Return the InfluxDB of a layout that has one."""
        assert self._influx is not None
        return self._influx

    def check(self, what: str, good: bool) -> None:
        """Add a verdict of the scenario's own."""
        self.checks.append(Check(what, good))

    @asynccontextmanager
    async def hose(
        self,
        hello: Sequence[bytes],
        blocks: Sequence[messages.Block],
        what: str,
        *,
        port: int,
        connections: int,
        seconds: float | None = None,
        addresses: int = 1,
        read: int | None = None,
        again: bool = False,
        hang_up: bool = False,
        opens: float | None = None,
        rate: float | None = None,
        most: int | None = None,
    ) -> AsyncIterator[None]:
        """Run `tests.attack.hose` for as long as the scale says; what it reached is reported."""
        spec = {
            "port": port,
            "connections": connections,
            "addresses": addresses,
            "hello": [await self._file(one) for one in hello],
            "block": [await self._file(one.data) for one in blocks],
            "units": blocks[0].units if blocks else 1,
            "read": read,
            "again": again,
            "hang_up": hang_up,
            "opens": opens,
            "rate": rate,
            "most": most,
        }
        phase = {"seconds": seconds or self.scale.seconds, "bytes": MOST_BYTES}
        async with Helper("hose", spec, package="tests.attack") as helper:
            self._attackers.add(helper)
            asked = asyncio.create_task(helper.ask(phase))
            if not most or seconds is None:
                await asyncio.wait((asked,), timeout=self.scale.lead)
            yield
            try:
                self.reached.append(_reached(await asked, what))
            except BenchError:  # ended by `watch`
                self.reached.append("ended early: a server grew beyond bounds")
            self._attackers.discard(helper)

    # -------------------------------------------------------------- servers

    async def _start(self, stack: AsyncExitStack) -> None:
        await stack.enter_async_context(self.broker)
        settings: dict[str, Any] = {
            "state_dir": "../state",
            "mqtt": {
                "url": f"mqtt://127.0.0.1:{self.broker.inner_port}",
                "username": "gateway",
                "password_file": "../secrets/mqtt-gateway.token",
            },
            "http": {"listen": f"127.0.0.1:{self.http_port}"},
            "log": {"format": "json"},
        }
        if self.layout.store == "influxdb":
            settings["store"] = await self._influxdb(stack)
        write = self.layout.write
        await asyncio.to_thread(write, self.gateway.config, settings, settings["mqtt"]["url"])
        await self._provision()
        await self.gateway.start()
        stack.push_async_callback(self.gateway.end)
        await eventually(lambda: "broker connected" in self.gateway.log, says="the gateway is connected")
        await eventually(lambda: connects("127.0.0.1", self.http_port), says="the gateway serves HTTP")

    async def _influxdb(self, stack: AsyncExitStack) -> dict[str, Any]:
        influxd = await stack.enter_async_context(Influxd(self.directory / "influxd"))
        self._influx = front = await stack.enter_async_context(InfluxV2Front(influxd, self.layout.slugs))
        secret = self.directory / "influxdb.token"
        secret.write_text(front.token)
        where = {"url": front.url, "org": front.org, "token_file": str(secret), "timeout": "5s"}
        return {"kind": "influxdb", "influxdb": where}

    async def _provision(self) -> None:
        """Run `gateway provision apply`, and make the attacker's wide account by hand."""
        command = (sys.executable, "-m", "gateway", "provision", "apply", "--json", "--config")
        secret = {"GATEWAY_PROVISION_MQTT_PASSWORD": ADMIN_PASSWORD}
        done = await commands.run(*command, str(self.gateway.config), env=os.environ | secret)
        if done.code:
            raise ServerFailed(f"gateway provision apply: {done.err}")
        self._accounts = {one["name"]: one["secret"] for one in json.loads(done.out)["credentials"]}
        self._accounts[ANYWHERE] = "a-password"
        wide = {"acltype": "publishClientSend", "topic": "testbed/#", "allow": True}
        role = {"command": "createRole", "rolename": ANYWHERE, "acls": [wide]}
        client = {"command": "createClient", "username": ANYWHERE, "password": self._accounts[ANYWHERE]}
        async with aiomqtt.Client(
            "127.0.0.1", self.broker.inner_port, username=ADMIN, password=ADMIN_PASSWORD, timeout=WITHIN
        ) as admin:
            for step in (role, client | {"roles": [{"rolename": ANYWHERE}]}):
                await control(admin, step)

    def victim(self) -> Helper:
        """Return the victim, not started yet."""
        spec = {
            "mqtt": self.broker.port,
            "http": f"http://127.0.0.1:{self.http_port}",
            "slug": VICTIM,
            "device": DEVICES[0],
            "account": (f"{VICTIM}.{DEVICES[0]}", self._accounts[f"{VICTIM}.{DEVICES[0]}"]),
            "token": token(VICTIM),
        }
        return Helper("victim", spec, package="tests.attack")

    def begin(self) -> None:
        """Forget what earlier attacks have reached."""
        self.reached, self.checks, self.peak = [], [], {"gateway": 0.0, "broker": 0.0}
        for pid in (self.gateway.pid, self.broker.pid):
            procfs.forget_peak(pid)

    async def watch(self) -> None:
        """Note how much memory the servers take, and end the attack when one takes far too much."""
        while True:
            for name, pid in (("gateway", self.gateway.pid), ("broker", self.broker.pid)):
                self.peak[name] = max(self.peak[name], await asyncio.to_thread(procfs.peak_mib, pid))
                if await asyncio.to_thread(procfs.resident_mib, pid) > RUNAWAY_MIB:
                    for attacker in list(self._attackers):
                        attacker.kill()
            await asyncio.sleep(LOOK)

    async def _file(self, data: bytes) -> str:
        path = self.directory / f"bytes-{next(self._names)}"
        await asyncio.to_thread(path.write_bytes, data)
        return str(path)


@asynccontextmanager
async def opened(directory: Path, layout: Layout, scale: Scale) -> AsyncIterator[Bed]:
    """Start everything, and watch its memory until the end."""
    bed = Bed(directory, layout, scale)
    async with AsyncExitStack() as stack:
        await bed._start(stack)
        watching = asyncio.create_task(bed.watch())
        try:
            yield bed
        finally:
            watching.cancel()
            await asyncio.wait((watching,))


def _reached(answer: Mapping[str, Any], what: str) -> str:
    """Report what an attack reached."""
    seconds = max(0.001, answer["seconds"])
    if answer["units"]:
        parts = [f"{answer['units'] / seconds:,.0f} {what}/s", f"{answer['sent'] / seconds / 1e6:,.1f} MB/s"]
    else:
        parts = [f"{answer['opened']:,} {what}", f"{answer['open']:,} open"]
    if answer["received"] > 1_000_000:
        parts.append(f"{answer['received'] / 1e6:,.0f} MB received")
    kinds = {kind: count for kind, count in answer["answers"].items() if kind != "CONNACK 0"}
    parts += [f"{count:,} × {kind}" for kind, count in sorted(kinds.items())]
    return ", ".join(parts)
