"""Live feeds over HTTP: Server-Sent Events that resume, and a WebSocket, against a running gateway."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

from gateway.api import live, streaming
from gateway.api.auth import Tokens
from gateway.config import Config
from gateway.model import Reading, Rejection
from gateway.mqtt.embedded_broker import EmbeddedBroker
from tests.running import Running, running, write_config
from tests.servers import WITHIN, eventually, free_port

URL = "/v1/startups/acme/live"


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Running]:
    async with EmbeddedBroker(free_port()) as broker:
        mqtt = {"url": broker.url, "protocol": "3.1.1"}
        config = write_config(tmp_path / "config", broker.url, mqtt=mqtt, feeds={"kept": 10})
        async with running(config) as one:
            yield one


def publish(gateway: Running, *values: int, device: str = "d", measurement: str = "climate") -> None:
    readings = [Reading("acme", device, measurement, {}, {"n": value}, value) for value in values]
    gateway.gateway.live.accepted({"acme": readings})


class Stream:
    """Server-Sent Events, parsed."""

    def __init__(self, lines: AsyncIterator[str]) -> None:
        self._lines = lines

    async def comment(self) -> str:
        async with asyncio.timeout(WITHIN):
            async for line in self._lines:
                if line.startswith(":"):
                    return line
        raise AssertionError("the stream ended")

    async def event(self) -> dict[str, Any]:
        """Return the next event as id, event and data."""
        event: dict[str, Any] = {}
        async with asyncio.timeout(WITHIN):
            async for line in self._lines:
                name, _, value = line.partition(": ")
                if name in ("id", "event", "data"):
                    event[name] = json.loads(value) if name == "data" else value
                elif not line and "data" in event:
                    return event
        raise AssertionError("the stream ended")


@asynccontextmanager
async def listening(gateway: Running, query: str = "", after: str | None = None) -> AsyncIterator[Stream]:
    headers = {"Last-Event-ID": after} if after else {}
    feed = gateway.gateway.live.feed("acme")
    before = feed.followers
    async with (
        gateway.client("acme-token") as client,
        client.stream("GET", f"{URL}{query}", headers=headers) as answer,
    ):
        assert answer.headers["content-type"].startswith("text/event-stream")
        await eventually(lambda: feed.followers > before)
        yield Stream(aiter(answer.aiter_lines()))
    await eventually(lambda: feed.followers == before, says="the listener that left is forgotten")


async def test_events_arrive_and_resume(gateway: Running) -> None:
    """A listener that comes back with its last id gets what came in between, and then what comes."""
    async with listening(gateway) as stream:
        publish(gateway, 1)
        first = await stream.event()
    assert first["event"] == "reading"
    assert first["data"]["fields"] == {"n": 1}
    publish(gateway, 2, 3)
    async with listening(gateway, after=first["id"]) as again:
        assert [(await again.event())["data"]["fields"]["n"] for _ in range(2)] == [2, 3]
        publish(gateway, 4)
        assert (await again.event())["data"]["fields"]["n"] == 4


async def test_a_listener_that_was_away_too_long_is_informed_of_missed_events(gateway: Running) -> None:
    """More events than are kept: first the number of those lost, then the kept ones."""
    async with listening(gateway) as stream:
        publish(gateway, 0)
        first = await stream.event()
    publish(gateway, *range(1, 31))
    async with listening(gateway, after=first["id"]) as again:
        missed = await again.event()
        assert missed["event"] == "missed"
        assert missed["data"]["count"] == 20
        assert (await again.event())["data"]["fields"]["n"] == 21


async def test_an_expired_token_receives_nothing_more(gateway: Running) -> None:
    """An open stream and an open WebSocket end with the token that opened them."""
    url = gateway.url.replace("http", "ws") + f"{URL}/ws"
    async with (
        listening(gateway) as stream,
        websockets.connect(url, subprotocols=["bearer", "acme-token"]) as socket,  # type: ignore[list-item]
    ):
        await eventually(lambda: gateway.gateway.live.feed("acme").followers == 2)
        publish(gateway, 1)
        assert (await stream.event())["data"]["fields"] == {"n": 1}
        assert json.loads(await socket.recv())["data"]["fields"] == {"n": 1}
        gateway.gateway.use(gateway.gateway.config, Tokens({"acme": "another-token"}, None))
        publish(gateway, 2)
        with pytest.raises(AssertionError, match="the stream ended"):
            await stream.event()
        with pytest.raises(websockets.ConnectionClosedError, match="may no longer listen"):
            await socket.recv()


async def test_a_removed_startup_is_let_go_though_it_comes_back(gateway: Running) -> None:
    """With the same token or not: who listened before it was removed receives nothing of it afterwards."""
    url = gateway.url.replace("http", "ws") + f"{URL}/ws"
    config, tokens = gateway.gateway.config, Tokens({"acme": "acme-token"}, None)
    async with (
        listening(gateway) as stream,
        websockets.connect(url, subprotocols=["bearer", "acme-token"]) as socket,  # type: ignore[list-item]
    ):
        await eventually(lambda: gateway.gateway.live.feed("acme").followers == 2)
        publish(gateway, 1)
        last = await stream.event()
        assert json.loads(await socket.recv())["data"]["fields"] == {"n": 1}
        gateway.gateway.use(Config(settings=config.settings, startups=()), tokens)
        gateway.gateway.use(config, tokens)
        publish(gateway, 2)
        with pytest.raises(AssertionError, match="the stream ended"):
            await stream.event()
        with pytest.raises(websockets.ConnectionClosedError, match="may no longer listen"):
            await socket.recv()
    async with listening(gateway, after=last["id"]) as again:
        assert (await again.event())["data"]["fields"] == {"n": 2}


async def test_a_websocket_that_is_not_read_is_cut_off(gateway: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a stream is: after a while that its client takes nothing of what waits for it."""
    monkeypatch.setattr(streaming, "GRACE", 0.2)
    url = gateway.url.replace("http", "ws") + f"{URL}/ws"
    headers = {"Authorization": "Bearer acme-token"}
    feed = gateway.gateway.live.feed("acme")
    text = "x" * 500_000

    def is_let_go() -> bool:
        gateway.gateway.live.accepted({"acme": [Reading("acme", "d", "log", {}, {"text": text}, 1)]})
        return feed.followers == 0

    async with websockets.connect(url, additional_headers=headers, max_queue=1) as socket:
        await eventually(lambda: feed.followers == 1)
        await eventually(is_let_go, says="the listener that reads nothing is let go")
        socket.transport.abort()


async def test_filters(gateway: Running) -> None:
    """A listener may want one measurement or one device."""
    async with listening(gateway, "?measurement=air&device=b") as stream:
        publish(gateway, 1)
        publish(gateway, 2, measurement="air")
        publish(gateway, 3, measurement="air", device="b")
        assert (await stream.event())["data"]["fields"]["n"] == 3


async def test_a_silent_stream_is_kept_open(gateway: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """When nothing happens a comment goes out now and then, and events still arrive afterwards."""
    monkeypatch.setattr(live, "KEEP_ALIVE", 0.05)
    async with listening(gateway) as stream:
        assert await stream.comment() == ": still here"
        publish(gateway, 1)
        assert (await stream.event())["data"]["fields"]["n"] == 1


@pytest.mark.parametrize("ident", ["soon", "9" * 5000])
async def test_an_invalid_event_id_is_reported(gateway: Running, ident: str) -> None:
    """An id that is none: 422 and what was expected, over HTTP and before a WebSocket opens."""
    url = gateway.url.replace("http", "ws") + f"{URL}/ws?after={ident}"
    with pytest.raises(websockets.InvalidStatus) as rejected:
        async with websockets.connect(url, additional_headers={"Authorization": "Bearer acme-token"}):
            pass
    assert rejected.value.response.status_code == 422
    async with gateway.client("acme-token") as client:
        answer = await client.get(URL, headers={"Last-Event-ID": ident})
    assert answer.status_code == 422
    assert "an integer" in answer.json()["detail"]


async def test_the_websocket_sends_the_same_events(gateway: Running) -> None:
    """A browser signs in with the subprotocol; readings and rejections come as JSON."""
    url = gateway.url.replace("http", "ws") + f"{URL}/ws"
    async with websockets.connect(url, subprotocols=["bearer", "acme-token"]) as socket:  # type: ignore[list-item]
        assert socket.subprotocol == "bearer"
        await eventually(lambda: gateway.gateway.live.feed("acme").followers == 1)
        publish(gateway, 1)
        gateway.gateway.live.rejected([Rejection("acme", "d", "t", b"", 1, ())])
        async with asyncio.timeout(WITHIN):
            events = [json.loads(await socket.recv()) for _ in range(2)]
    assert [event["event"] for event in events] == ["reading", "rejection"]
    assert events[0]["data"]["fields"] == {"n": 1}
    await eventually(lambda: gateway.gateway.live.feed("acme").followers == 0)


async def test_the_websocket_accepts_only_an_offered_subprotocol(gateway: Running) -> None:
    """A client with its token in the header may offer other subprotocols; none of them is chosen."""
    url = gateway.url.replace("http", "ws") + f"{URL}/ws"
    headers = {"Authorization": "Bearer acme-token"}
    async with websockets.connect(url, additional_headers=headers, subprotocols=["other"]) as socket:  # type: ignore[list-item]
        assert socket.subprotocol is None


@pytest.mark.parametrize(("token", "path"), [("wrong", "acme"), ("voltwise-token", "acme")])
async def test_the_websocket_rejects_others(gateway: Running, token: str, path: str) -> None:
    """Without the startup's own token the WebSocket is not opened."""
    url = gateway.url.replace("http", "ws") + f"/v1/startups/{path}/live/ws"
    with pytest.raises(websockets.InvalidStatus):
        async with websockets.connect(url, additional_headers={"Authorization": f"Bearer {token}"}):
            pass


async def test_the_gateway_stops_while_listeners_listen(tmp_path: Path) -> None:
    """Open streams do not keep the gateway from stopping."""
    async with EmbeddedBroker(free_port()) as broker:
        mqtt = {"url": broker.url, "protocol": "3.1.1"}
        config = write_config(tmp_path / "config", broker.url, mqtt=mqtt)
        async with (
            running(config) as gateway,
            gateway.client("acme-token") as client,
            client.stream("GET", URL) as answer,
        ):
            gateway.gateway.stop()
            with suppress(httpx.HTTPError):  # cut off, or ended: both are an end
                async with asyncio.timeout(WITHIN):
                    await answer.aread()
