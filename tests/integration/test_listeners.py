"""A listener of one's own: a file sink of one class, composed by one argument, beside a listener that always fails."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from gateway.feeds.live_ring import reading_json, rejection_json
from gateway.model import Readings, Rejection
from tests.running import Running, running, write_config
from tests.servers import Mosquitto, eventually

TOPIC = "testbed/acme/th-1/climate"


class FileSink:
    """Appends every outcome to a file, one JSON document a line; a disk that is too slow costs the oldest."""

    def __init__(self, path: Path, waiting: int = 10_000) -> None:
        self._path = path
        self._waiting: deque[str] = deque(maxlen=waiting)
        self._arrived = asyncio.Event()

    def accepted(self, readings: Readings, /) -> None:
        self._add(reading_json(reading) for several in readings.values() for reading in several)

    def rejected(self, rejections: Sequence[Rejection], /) -> None:
        self._add(rejection_json(rejection) for rejection in rejections)

    async def run(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            lines = [self._waiting.popleft() for _ in range(len(self._waiting))]
            await asyncio.to_thread(self._append, lines)

    def _add(self, bodies: Iterable[Mapping[str, object]]) -> None:
        self._waiting.extend(json.dumps(body) + "\n" for body in bodies)
        self._arrived.set()

    def _append(self, lines: list[str]) -> None:
        with self._path.open("a") as file:
            file.writelines(lines)


class Failing:
    """A listener that cannot take anything."""

    def accepted(self, _readings: Readings, /) -> None:
        raise RuntimeError("no readings here")

    def rejected(self, _rejections: Sequence[Rejection], /) -> None:
        raise RuntimeError("no rejections here")


@pytest.fixture
def sink(tmp_path: Path) -> Path:
    return tmp_path / "outcomes.ndjson"


@pytest.fixture
async def gateway(tmp_path: Path, broker: Mosquitto, sink: Path) -> AsyncIterator[Running]:
    """A gateway with both listeners, the one that fails before the sink."""
    async with running(write_config(tmp_path / "config", broker.url), listeners=[Failing(), FileSink(sink)]) as one:
        yield one


async def outcomes(sink: Path, count: int) -> list[dict[str, Any]]:
    """Wait until the sink has so many lines; return their documents."""

    def documents() -> list[dict[str, Any]]:
        return [json.loads(line) for line in sink.read_text().splitlines()] if sink.exists() else []

    await eventually(lambda: len(documents()) >= count, says=f"{count} outcomes are in the file")
    return documents()


def payload(temperature: float | str) -> bytes:
    return json.dumps({"ts": time.time_ns() // 1_000_000, "t": temperature}).encode()


async def test_a_file_sink_gets_every_outcome(gateway: Running, device: aiomqtt.Client, sink: Path) -> None:
    """Readings, rejections and points that the store refused reach a listener that is one class and one argument."""
    await gateway.gateway.engine.store.write("acme", [b"climate,device=th-1 temperature=21i 1"])
    await device.publish(TOPIC, payload("warm"), qos=1)
    (rejected,) = await outcomes(sink, 1)
    await device.publish(TOPIC, payload(21.5), qos=1)
    _, accepted, refused = await outcomes(sink, 3)
    assert [reason["code"] for reason in rejected["reasons"]] == ["wrong_type"]
    assert accepted["fields"] == {"temperature": 21.5}
    assert (refused["device"], [reason["code"] for reason in refused["reasons"]]) == ("th-1", ["store_refused"])


async def test_a_failing_listener_stops_nothing(gateway: Running, device: aiomqtt.Client) -> None:
    """Beside a listener that always fails, messages are acknowledged, stored and balanced; the failures are counted."""
    for temperature in (20, "warm", 21):
        await device.publish(TOPIC, payload(temperature), qos=1)
    counts = await gateway.stored(1)
    assert counts.balanced
    async with gateway.client() as client:
        metrics = (await client.get("/metrics")).text
    assert 'gateway_listener_failures_total{listener="Failing"}' in metrics
    assert 'listener="FileSink"' not in metrics
