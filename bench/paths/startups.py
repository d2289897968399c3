"""`startups`: a gateway with many startups: its start, its memory, and a reload of one of them beside the others."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from itertools import count

import aiohttp
import aiomqtt

from bench import formatting, rig
from bench.children import BenchError
from bench.gateway_process import OPERATOR_TOKEN, Gateway
from bench.options import Options
from bench.report import Report, Row, progress
from bench.rig import Site
from bench.shape import FIRST_SEQUENCE, Shape
from bench.stats import median

NUMBERS = (10, 1000)
RELOADS = 5
EVERY = 0.005
"""Seconds between two messages of the startup that is watched."""
SETTLED = 0.5
ARRIVES_WITHIN = 10.0
READY_S, RELOAD_S, PAUSE_MS, RESIDENT_MIB = 20.0, 0.5, 50.0, 1.0
EVENT = b'"sequence":'


@dataclass(frozen=True, slots=True)
class Started:
    """A gateway with so many startups. `pause_ms` are the largest latencies of another startup's messages while one is
    reloaded, `quiet_ms` the largest without."""

    startups: int
    ready_s: float
    resident_mib: float
    quiet_ms: float
    reload_s: list[float] = field(default_factory=list)
    pause_ms: list[float] = field(default_factory=list)


async def run(options: Options) -> Report:
    """Measure each number of startups in turns."""
    runs: dict[int, list[Started]] = {number: [] for number in NUMBERS}
    with progress("startups", options.rounds * len(NUMBERS)) as advance:
        for _ in range(options.rounds):
            for number in NUMBERS:
                advance(f"{number} startups")
                runs[number].append(await _started(options.but(shape=Shape(startups=number, devices=number))))
    few, many = (runs[number] for number in NUMBERS)
    each = (_middle(many, "resident_mib") - _middle(few, "resident_mib")) / (NUMBERS[1] - NUMBERS[0])
    ready, reload = _middle(many, "ready_s"), median(second for one in many for second in one.reload_s)
    pause, quiet = max(ms for one in many for ms in one.pause_ms), _middle(many, "quiet_ms")
    figures = {
        "path": "startups",
        "startups": NUMBERS[1],
        "ready_s": round(ready, 2),
        "resident_mib_each": round(each, 3),
        "reload_s": round(reload, 3),
        "pause_ms": round(pause, 1),
        "quiet_ms": round(quiet, 1),
    }
    shown = f"{NUMBERS[1]:,} startups"
    rows = [
        Row(f"{shown}: start to ready", f"{ready:.1f} s", f"< {READY_S:g} s", ready < READY_S),
        Row("resident, each startup", f"{each:.2f} MiB", f"< {RESIDENT_MIB:g} MiB", each < RESIDENT_MIB),
        Row("reload of one", f"{reload:.2f} s", f"< {RELOAD_S:g} s", reload < RELOAD_S),
        Row("longest latency of another meanwhile", formatting.millis(pause), f"< {PAUSE_MS:g} ms", pause < PAUSE_MS),
        Row("the same without a reload", formatting.millis(quiet)),
    ]
    return Report(figures, rows, [asdict(one) for several in runs.values() for one in several])


def _middle(several: list[Started], name: str) -> float:
    return float(median(getattr(one, name) for one in several))


async def _started(options: Options) -> Started:
    async with rig.mosquitto() as broker, rig.scratch() as directory:
        gateway = rig.gateway_of(options, directory, broker, None)
        began = time.monotonic()
        async with gateway:
            ready_s = time.monotonic() - began
            site = Site(options, broker, gateway, None)
            return await _watched(site, ready_s)


async def _watched(site: Site, ready_s: float) -> Started:
    shape, headers = site.options.shape, {"Authorization": f"Bearer {OPERATOR_TOKEN}"}
    async with aiohttp.ClientSession(site.gateway.url, headers=headers) as http, _Watch(site, http).running() as watch:
        await asyncio.sleep(SETTLED * RELOADS)
        one = Started(shape.startups, ready_s, site.gateway.resident_mib(), watch.longest_ms())
        changed = shape.slug(shape.startups - 1)
        for number in range(RELOADS):
            watch.forget()
            one.reload_s.append(await _reload(site.gateway, http, changed, f"changed {number}"))
            await asyncio.sleep(SETTLED)
            one.pause_ms.append(watch.longest_ms())
        return one


async def _reload(gateway: Gateway, http: aiohttp.ClientSession, slug: str, name: str) -> float:
    """Change a startup's name in its file; return the seconds until the gateway shows it."""
    path = gateway.config / "startups" / f"{slug}.yaml"
    changed = "\n".join(f"name: {name}" if line.startswith("name:") else line for line in path.read_text().split("\n"))
    began = time.monotonic()
    await asyncio.to_thread(path.write_text, changed)
    while True:
        async with http.get(f"/v1/startups/{slug}") as answer:
            if (await answer.json())["name"] == name:
                return time.monotonic() - began
        if time.monotonic() - began > ARRIVES_WITHIN:
            raise BenchError("the gateway has not taken over a changed file")
        await asyncio.sleep(EVERY)


class _Watch:
    """Publishes messages of the first startup, and follows its live feed."""

    def __init__(self, site: Site, http: aiohttp.ClientSession) -> None:
        self._site = site
        self._http = http
        self._sent: dict[int, float] = {}
        self._latencies: list[float] = []
        self._is_stopped = False

    def forget(self) -> None:
        self._latencies.clear()

    def longest_ms(self) -> float:
        """Return the largest latency since `forget`, of a message that has arrived or is still missing."""
        now = time.monotonic()
        return max([*self._latencies, *(now - at for at in self._sent.values())]) * 1e3

    @asynccontextmanager
    async def running(self) -> AsyncIterator[_Watch]:
        async with self._http.get(f"/v1/startups/{self._site.options.shape.slug(0)}/live") as events:
            reading = asyncio.create_task(self._read(events))
            publishing = asyncio.create_task(self._publish())
            try:
                yield self
            finally:
                self._is_stopped = True  # on Python 3.11 aiomqtt can swallow a cancellation
                reading.cancel()
                await asyncio.wait((reading, publishing))

    async def _publish(self) -> None:
        shape = self._site.options.shape
        async with aiomqtt.Client("127.0.0.1", self._site.broker.port) as client:
            sequences = count(FIRST_SEQUENCE)
            while not self._is_stopped:
                sequence = next(sequences)
                self._sent[sequence] = time.monotonic()
                await client.publish(shape.topic(0), shape.body(0, sequence))
                await asyncio.sleep(EVERY)

    async def _read(self, events: aiohttp.ClientResponse) -> None:
        async for line in events.content:
            if line.startswith(b"data:") and EVENT in line:
                sequence = int(json.loads(line[5:])["fields"]["sequence"])
                if (sent := self._sent.pop(sequence, None)) is not None:
                    self._latencies.append(time.monotonic() - sent)
