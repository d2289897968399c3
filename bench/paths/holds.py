"""`holds`: the longest time that requests hold the event loop: each kind is asked 100 times at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp

from bench import formatting
from bench.children import Helper
from bench.options import Options
from bench.report import Report, Row, progress
from bench.stats import median
from bench.web import EVENTS, SLUG
from tests.servers import free_port

AT_ONCE = 100
WANTED_MS = 20.0
WITHIN = 60.0
PUBLISHED = 50
TOKENS = {"token": "bench-startup", "operator": "bench-operator"}
BASE = f"/v1/startups/{SLUG}"
PATHS = {
    "nothing asked": "",
    "probe": "/healthz",
    "startup": BASE,
    "devices, 10,000": f"{BASE}/devices",
    "latest, 5,000 series": f"{BASE}/latest",
    "history, JSON": f"{BASE}/telemetry?measurement=climate&start=-1d",
    "history, CSV": f"{BASE}/telemetry?measurement=climate&start=-1d&format=csv&limit=20000",
    "history, NDJSON": f"{BASE}/telemetry?measurement=climate&start=-1d&format=ndjson&limit=20000",
    "history in windows": f"{BASE}/telemetry?measurement=climate&start=-1d&every=1s&limit=20000",
    "page of 1,000 rejections": f"{BASE}/rejections?limit=1000",
    "rejection": f"{BASE}/rejections/7",
    "payload of a rejection": f"{BASE}/rejections/7/payload",
    "metrics, 1,000 startups": "/metrics",
    "status, 1,000 startups": "/v1/operator/status",
    "schema": "/openapi.json",
    "page to try the API": "/docs",
    "error": f"{BASE}/telemetry?measurement={'m' * 1000}",
    "wrong parameters": f"{BASE}/telemetry?{'&'.join(f'p{number}=1' for number in range(99))}",
    "sign-in": "/",
}
Ask = Callable[[aiohttp.ClientSession, str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of request. `published` rounds of readings are put on the live feed meanwhile."""

    path: str
    ask: Ask
    published: int = 0


async def run(options: Options) -> Report:
    """Ask each kind of request, `rounds` times."""
    kinds = {name: _Kind(path, _read) for name, path in PATHS.items()} | {
        "live feed, what was missed": _Kind(f"{BASE}/live", _catch_up),
        "WebSocket, what was missed": _Kind(f"{BASE}/live/ws?after=1", _catch_up_socket),
        "live feed, while it is published": _Kind(f"{BASE}/live", _listen, PUBLISHED),
        "web page of a startup": _Kind(f"/startups/{SLUG}", _page),
        "web page of all startups": _Kind("/operator", _page),
    }
    held: dict[str, list[float]] = {name: [] for name in kinds}
    port = free_port()
    async with Helper("web", {"port": port, **TOKENS}) as server:
        with progress("holds", options.rounds * len(kinds)) as advance:
            for _ in range(options.rounds):
                for name, kind in kinds.items():
                    advance(name)
                    held[name].append(await _held(server, f"http://127.0.0.1:{port}", kind))
    figures: dict[str, Any] = {"path": "holds", "held_ms": {name: round(median(of), 1) for name, of in held.items()}}
    rows = [
        Row(name, formatting.millis(median(of)), f"< {WANTED_MS:g} ms", median(of) < WANTED_MS)
        for name, of in held.items()
    ]
    return Report(figures, rows, [{name: of} for name, of in held.items()])


async def _held(server: Helper, url: str, kind: _Kind) -> float:
    """Return for how long the loop was held, in ms, while one kind of request is asked."""
    connector = aiohttp.TCPConnector(limit=0)
    jar = aiohttp.CookieJar(unsafe=True)  # the host is an address
    timeout = aiohttp.ClientTimeout(WITHIN)
    async with aiohttp.ClientSession(url, connector=connector, cookie_jar=jar, timeout=timeout) as http:
        if kind.ask is _page:
            async with http.post("/sign-in", data={"token": TOKENS["operator"]}, allow_redirects=False):
                pass
        await asyncio.sleep(0.2)
        await server.ask({})
        asking = [asyncio.create_task(_or_refused(kind, http)) for _ in range(AT_ONCE)]
        if kind.published:
            await asyncio.sleep(0.5)
        answer = await server.ask({"publish": kind.published}) if kind.published else {}
        await asyncio.gather(*asking)
        answer = answer or await server.ask({})
        return float(answer["held_ms"])


async def _or_refused(kind: _Kind, http: aiohttp.ClientSession) -> None:
    if not kind.path:
        await asyncio.sleep(1)
        return
    try:
        await kind.ask(http, kind.path)
    except (aiohttp.ClientError, TimeoutError):  # too many at once: what holds the loop is measured, not what is served
        return


def _headers() -> dict[str, str]:
    return {"Authorization": f"Bearer {TOKENS['operator']}"}


async def _read(http: aiohttp.ClientSession, path: str) -> None:
    async with http.get(path, headers=_headers()) as answer:
        async for _ in answer.content.iter_any():
            pass


async def _page(http: aiohttp.ClientSession, path: str) -> None:
    async with http.get(path, allow_redirects=False, raise_for_status=True) as answer:
        await answer.read()


async def _catch_up(http: aiohttp.ClientSession, path: str) -> None:
    await _events(http, path, EVENTS, {"Last-Event-ID": "1"})


async def _listen(http: aiohttp.ClientSession, path: str) -> None:
    await _events(http, path, EVENTS // 2, {})


async def _events(http: aiohttp.ClientSession, path: str, count: int, more: dict[str, str]) -> None:
    async with http.get(path, headers=_headers() | more, raise_for_status=True) as answer:
        async for part in answer.content.iter_any():
            count -= part.count(b"event: reading")
            if count <= 0:
                return


async def _catch_up_socket(http: aiohttp.ClientSession, path: str) -> None:
    async with http.ws_connect(path, headers=_headers()) as socket:
        left = EVENTS
        async for message in socket:
            left -= json.loads(message.data)["event"] == "reading"
            if left <= 0:
                return
