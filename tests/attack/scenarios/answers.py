"""Requests with a startup's own token: what is expensive to answer."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

from tests.attack.bed import Bed
from tests.attack.layout import ATTACKER, Layout
from tests.attack.scenario import attack
from tests.servers import eventually

BAD = b"x" * 64_000
ONES = b"[" + b",".join([b"1"] * 30_000) + b"]"
LONG = "x" * 65_000
READING = b'{"t": 21.5}'
BASE = f"/v1/startups/{ATTACKER}"
GENEROUS = Layout(quota={"messages": "20000/s", "burst": 500_000, "series": 100_000})


@attack("1,000 bad messages of 64 KB, then a page of 1,000 rejections, six at a time")
async def pages_of_rejections(bed: Bed) -> AsyncIterator[None]:
    await bed.publish(BAD, most=bed.scale.of(1000))
    async with bed.ask(bed.request(f"{BASE}/rejections?limit=1000"), parallel=6):
        yield


@attack("topics of 65 KB, then 20 live feeds from the first event on, unread")
async def unread_feeds(bed: Bed) -> AsyncIterator[None]:
    await bed.publish(b"x", rest=LONG, most=bed.scale.of(2000))
    request = bed.request(f"{BASE}/live", more=["Last-Event-ID: 1"])
    async with bed.http(request, connections=20, read=0, what="feeds"):
        yield


@attack("50 live feeds read at 1 KB a second, beside as many readings as the quota allows")
async def slow_feeds(bed: Bed) -> AsyncIterator[None]:
    async with (
        bed.http(bed.request(f"{BASE}/live"), connections=50, read=100, what="feeds"),
        bed.flood(READING, rate=200),
    ):
        yield


@attack("replays of [1,1,…], 300 in a request, six at a time")
async def replays(bed: Bed) -> AsyncIterator[None]:
    await bed.publish(ONES, most=bed.scale.of(10))
    idents = await _dead_letters(bed)
    body = json.dumps({"ids": (idents * 300)[: bed.scale.of(300)]}).encode()
    request = bed.request(f"{BASE}/rejections/replay", method="POST", body=body)
    async with bed.ask(request, parallel=6):
        yield


async def _dead_letters(bed: Bed) -> list[int]:
    """Return the ids of the attacker's dead letters, once there are some."""

    async def found() -> list[int]:
        return [one["id"] for one in (await bed.get(f"{BASE}/rejections?limit=10"))["rejections"]]

    return await eventually(found, says="there are dead letters")


@attack("heavy queries of one token, eight at a time, while another queries", layout=GENEROUS, measure="query")
async def heavy_queries(bed: Bed) -> AsyncIterator[None]:
    def payload(number: int) -> bytes:
        return b'{"t": 21.5, "b": "batch-%04d"}' % (number % 1000)

    await bed.publish(payload, most=bed.scale.of(200_000))
    query = f"{BASE}/telemetry?measurement=climate&start=-30d&every=1s&format=csv&limit=1000000"
    async with bed.ask(bed.request(query), parallel=8):
        yield


@attack("exports of all readings, 16 at a time, never read", layout=GENEROUS)
async def unread_exports(bed: Bed) -> AsyncIterator[None]:
    await bed.publish(READING, most=bed.scale.of(200_000))
    request = bed.request(f"{BASE}/telemetry?measurement=climate&start=-30d&format=csv&limit=1000000")
    async with bed.http(request, connections=16, read=0, what="exports"):
        yield
