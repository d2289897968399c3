"""Live feeds over HTTP: connections are bounded, and what was missed is sent in pieces."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gateway.api.limits import Limits
from gateway.api.live import Wanted, sse
from gateway.feeds.live_ring import PIECE, LiveRing
from gateway.shares import Shares
from tests.builders import rejection
from tests.servers import WITHIN
from tests.unit.api.services import client, services


async def test_live_connections_of_a_startup_are_bounded(tmp_path: Path) -> None:
    """Beyond its bound a startup is rejected with the reason, and another one is not."""
    limits = Limits()
    limits.followers = Shares("live connections", each=0, total=10)
    async with client(services(tmp_path, limits=limits)) as http:
        rejected = await http.get("/v1/startups/acme/live")
    assert (rejected.status_code, rejected.headers["content-type"]) == (503, "application/problem+json")
    assert "live connections" in rejected.json()["detail"]


async def test_what_was_missed_is_sent_in_pieces() -> None:
    """A listener that returns gets everything since then, no piece of it large."""
    ring = LiveRing(2000, 1)
    ring.publish([rejection(b"x", topic="t" * 10_000) for _ in range(300)])
    sizes: list[int] = []
    text = b""
    async with asyncio.timeout(WITHIN):
        async for piece in sse(ring, Wanted(), 0, lambda: True):
            sizes.append(len(piece))
            text += piece
            if text.count(b"event: rejection") == 300:
                break
    assert max(sizes) < 2 * PIECE
    assert b"missed" not in text


async def test_listeners_that_want_everything_share_what_is_sent() -> None:
    """Once a piece is encoded, further listeners get it without a turn; one that wants less has a turn of its own."""
    ring = LiveRing(10, 1)
    ring.publish([rejection(b"x"), rejection(b"y")])
    first, second, picky = (sse(ring, wanted, 0, lambda: True) for wanted in (Wanted(), Wanted(), Wanted(device="?")))
    for listener in (first, second, picky):
        assert (await anext(listener)).startswith(b"retry")
    async with asyncio.timeout(WITHIN):
        piece = await anext(first)
        assert await anext(picky) == b""
        async with ring.turn():
            assert await anext(second) == piece
    for listener in (first, second, picky):
        await listener.aclose()
