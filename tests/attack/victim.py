"""Victim, `python -m tests.attack.victim SPEC`: an ordinary device and its startup's program, well-behaved.

The device publishes with QoS 1 at a steady rate, by an ordinary MQTT client. The program follows the startup's live
feed over SSE, asks for the ledger and the history, and counts in the end what the store has. Both reconnect.

The device connects when it is asked {"connect": true}. A question is {"messages", "rate", "patience"}. The answer has,
in ms: `live`, from the moment when a message was due until it was read on the feed; `stored`, until the ledger has it
as stored; `query`, how long requests took; null is "never". `lost` is how many messages are not in the store after
`patience` seconds.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import aiohttp
import aiomqtt

from bench import helper

LOOPBACK = "127.0.0.1"
SOURCE = "127.0.0.2"
"""Address that it comes from: another one than the attackers'."""
SEQ = re.compile(rb'"seq":(\d+)')
EVENT_ID = re.compile(rb"^id: (\d+)", re.MULTILINE)
RETRY = 0.2
POLL = 0.05
QUERY_EVERY = 0.25
CONNECT_WITHIN = 60.0
FAILED = (aiohttp.ClientError, OSError, TimeoutError, json.JSONDecodeError)


class Victim:
    """A device and a program of one startup."""

    def __init__(self, spec: dict[str, Any], http: aiohttp.ClientSession) -> None:
        self._spec = spec
        self._http = http
        self._base = f"{spec['http']}/v1/startups/{spec['slug']}"
        self._topic = f"testbed/{spec['slug']}/{spec['device']}/climate"
        self._next = 1_000_000
        self._seen: dict[int, float] = {}
        self._last_event = ""
        self._followed = asyncio.Event()
        self._queries: list[float | None] = []
        self._stored: list[tuple[float, int]] = []
        self._connection = AsyncExitStack()
        self._device: aiomqtt.Client | None = None
        self._before = 0
        self._last_ms = 0

    async def prepare(self) -> None:
        """Connect the device, and look up what is stored: under attack both may take long."""
        self._before = await self._ledger_stored()
        await self.connect()

    async def connect(self) -> None:
        await self._connection.aclose()
        user, password = self._spec["account"]
        device = aiomqtt.Client(LOOPBACK, self._spec["mqtt"], username=user, password=password, timeout=10)
        self._device = await self._connection.enter_async_context(device)

    async def phase(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Publish, watch, and return what was noticed."""
        count, rate, patience = asked["messages"], asked["rate"], asked["patience"]
        self._seen, self._queries, self._stored = {}, [], []
        before = self._before
        first, self._next = self._next, self._next + count
        wanted = range(first, first + count)
        async with self._background(self._query), self._background(self._watch_ledger):
            start = time.monotonic() + 0.05
            await self._publish(wanted, start, rate, patience)
            give_up = start + count / rate + patience
            while len(self._seen.keys() & set(wanted)) < count and time.monotonic() < give_up:
                await asyncio.sleep(POLL)
            lost = await self._lost(set(wanted), give_up)
        due = [start + number / rate for number in range(count)]
        return {
            "messages": count,
            "lost": lost,
            "live": [_ms(self._seen.get(one), due[one - first]) for one in wanted],
            "stored": [_ms(self._stored_at(before + k + 1), due[k]) for k in range(count)],
            "query": self._queries,
        }

    async def ready(self) -> None:
        """Wait until the feed is followed."""
        await asyncio.wait_for(self._followed.wait(), CONNECT_WITHIN)

    async def follow(self) -> None:
        """Follow the live feed for ever, from the last event on when it breaks."""
        while True:
            with suppress(*FAILED):
                await self._listen()
            await asyncio.sleep(RETRY)

    async def _listen(self) -> None:
        headers = {"Last-Event-ID": self._last_event} if self._last_event else {}
        async with self._http.get(f"{self._base}/live", headers=headers, timeout=_no_limit()) as answer:
            answer.raise_for_status()
            left = b""
            async for data in answer.content.iter_any():
                self._followed.set()
                whole, _, left = (left + data).rpartition(b"\n\n")
                now = time.monotonic()
                for seq in SEQ.findall(whole):
                    self._seen.setdefault(int(seq), now)
                if ids := EVENT_ID.findall(whole):
                    self._last_event = ids[-1].decode()

    # -------------------------------------------------------------- publishing

    async def _publish(self, wanted: range, start: float, rate: float, patience: float) -> None:
        """Publish each when it is due; after a lost connection again what was not acknowledged."""
        left = dict.fromkeys(wanted)
        give_up = start + len(wanted) / rate + patience
        while left and time.monotonic() < give_up:
            with suppress(aiomqtt.MqttError, TimeoutError):
                if self._device is None:
                    await self.connect()
                await self._publish_rest(left, wanted.start, start, rate)
            if left:
                self._device = None
                await asyncio.sleep(RETRY)
        with suppress(aiomqtt.MqttError):
            await self._connection.aclose()
        self._device = None

    def _distinct_ms(self) -> int:
        """Return a time for a reading that no other has: of two with the same time the store keeps one."""
        self._last_ms = max(time.time_ns() // 1_000_000, self._last_ms + 1)
        return self._last_ms

    async def _publish_rest(self, left: dict[int, None], first: int, start: float, rate: float) -> None:
        device = self._device
        assert device is not None

        async def publish(seq: int) -> None:
            body = {"ts": self._distinct_ms(), "t": 21.5, "seq": seq}
            await device.publish(self._topic, json.dumps(body, separators=(",", ":")), qos=1, timeout=60)
            left.pop(seq, None)

        try:
            async with asyncio.TaskGroup() as tasks:
                for seq in list(left):
                    await asyncio.sleep(max(0.0, start + (seq - first) / rate - time.monotonic()))
                    tasks.create_task(publish(seq))
        except ExceptionGroup as errors:
            raise aiomqtt.MqttError(str(errors)) from errors

    # -------------------------------------------------------------- asking

    async def _query(self) -> None:
        """Ask for the newest readings again and again, and note how long each took."""
        while True:
            began = time.monotonic()
            took: float | None = None
            with suppress(*FAILED):
                await self._get("/telemetry?measurement=climate&start=-5m&limit=50")
                took = (time.monotonic() - began) * 1e3
            self._queries.append(took)
            await asyncio.sleep(QUERY_EVERY)

    async def _watch_ledger(self) -> None:
        while True:
            with suppress(*FAILED):
                self._stored.append((time.monotonic(), await self._ledger_stored()))
            await asyncio.sleep(POLL)

    def _stored_at(self, number: int) -> float | None:
        return next((at for at, stored in self._stored if stored >= number), None)

    async def _ledger_stored(self) -> int:
        return int((await self._get(""))["ledger"]["stored"])

    async def _lost(self, wanted: set[int], give_up: float) -> int:
        """Return how many of them are not in the store, once all are there or time is up."""
        missing = set(wanted)
        while True:
            with suppress(*FAILED):
                path = "/telemetry?measurement=climate&start=-30m&limit=10000"
                found = json.dumps(await self._get(path), separators=(",", ":")).encode()
                missing = wanted - {int(seq) for seq in SEQ.findall(found)}
            if not missing or time.monotonic() > give_up:
                return len(missing)
            await asyncio.sleep(RETRY)

    async def _get(self, path: str) -> Any:
        async with self._http.get(self._base + path) as answer:
            answer.raise_for_status()
            return await answer.json()

    @asynccontextmanager
    async def _background(self, work: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
        task = asyncio.create_task(work())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait((task,))


def _no_limit() -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, sock_connect=10)


def _ms(at: float | None, due: float) -> float | None:
    return None if at is None else round((at - due) * 1e3, 3)


async def serve() -> None:
    """Connect, then answer questions until the other side closes."""
    spec = helper.spec()
    connector = aiohttp.TCPConnector(local_addr=(SOURCE, 0), limit=10)
    headers = {"Authorization": f"Bearer {spec['token']}"}
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout) as http:
        victim = Victim(spec, http)
        following = asyncio.create_task(victim.follow())
        await victim.ready()
        helper.say({"ready": True})
        questions = helper.asked()
        while asked := await asyncio.to_thread(next, questions, None):
            if asked.get("connect"):
                await victim.prepare()
                helper.say({"connected": True})
            else:
                helper.say(await victim.phase(asked))
        following.cancel()


if __name__ == "__main__":
    asyncio.run(serve())
