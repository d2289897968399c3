"""The web page's sockets, as a browser opens them, against a running gateway."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import websockets
from nicegui import Client, core
from websockets.asyncio.client import ClientConnection, connect

from gateway.api.auth import Tokens
from gateway.console import open_pages
from gateway.console.door import COOKIE
from gateway.model import Reading
from gateway.mqtt.embedded_broker import EmbeddedBroker
from tests.running import OPERATOR, Running, running, write_config
from tests.servers import WITHIN, free_port

CLOSE = "1"
"""Packet of Engine.IO with which a server asks the browser to close the socket."""
OTHERS = {"voltwise": "voltwise-token"}


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Running]:
    async with EmbeddedBroker(free_port()) as broker:
        mqtt = {"url": broker.url, "protocol": "3.1.1"}
        http = {"listen": "127.0.0.1:0", "console": True}
        async with running(write_config(tmp_path / "config", broker.url, mqtt=mqtt, http=http)) as one:
            yield one


@dataclass
class Browser:
    """What a browser has of a page: its cookie, and the page's id."""

    gateway: Running
    cookie: str
    client_id: str

    @asynccontextmanager
    async def socket(self, client_id: str | None = None, **more: str) -> AsyncIterator[ClientConnection]:
        """Open the page's socket, or another page's, and say hello."""
        query = {
            "EIO": "4",
            "transport": "websocket",
            "client_id": client_id or self.client_id,
            "tab_id": "tab",
            "document_id": "document",
            "next_message_id": "0",
            "implicit_handshake": "true",
        } | more
        url = f"{self.gateway.url.replace('http', 'ws')}/_nicegui_ws/socket.io/?{httpx.QueryParams(query)}"
        async with connect(url, additional_headers={"Cookie": f"{COOKIE}={self.cookie}"}) as socket:
            assert str(await socket.recv()).startswith("0{")
            await socket.send("40")
            yield socket


async def opened(gateway: Running, token: str, path: str) -> Browser:
    async with httpx.AsyncClient(base_url=gateway.url) as client:
        await client.post("/sign-in", data={"token": token})
        page = await client.get(path)
        found = re.search(r"[\"']client_id[\"']: [\"']([0-9a-f-]{36})", page.text)
        assert found, page.text[-2000:]
        return Browser(gateway, client.cookies[COOKIE], found[1])


async def until(socket: ClientConnection, wanted: str) -> list[str]:
    """Return what a socket says, up to something wanted."""
    said: list[str] = []
    while not said or wanted not in said[-1]:
        said.append(await answered(socket))
    return said


async def answered(socket: ClientConnection) -> str:
    """Return the next message that is not a ping."""
    while (text := str(await socket.recv())) == "2":
        await socket.send("3")
    return text


async def rest(socket: ClientConnection) -> str:
    """Return all that a socket says until it closes. A browser closes it when Engine.IO says so (`CLOSE`)."""
    said: list[str] = []
    with suppress(websockets.ConnectionClosed):
        async with asyncio.timeout(WITHIN):
            while CLOSE not in said:
                said.append(await answered(socket))
    return "\n".join(said)


def publish(gateway: Running, value: float) -> None:
    reading = Reading("acme", "th-1", "climate", {}, {"temperature": value}, 1_795_000_000_000_000_000)
    gateway.gateway.live.accepted({"acme": [reading]})


@pytest.mark.parametrize(
    ("token", "path", "tokens"),
    [
        ("acme-token", "/startups/acme", Tokens(OTHERS | {"acme": "another"}, OPERATOR)),
        ("acme-token", "/startups/acme", Tokens(OTHERS, OPERATOR)),
        (OPERATOR, "/startups/acme", Tokens(OTHERS | {"acme": "acme-token"}, "another")),
        (OPERATOR, "/operator", Tokens(OTHERS | {"acme": "acme-token"}, "another")),
    ],
)
async def test_an_open_page_ends_with_its_token(
    gateway: Running, monkeypatch: pytest.MonkeyPatch, token: str, path: str, tokens: Tokens
) -> None:
    """From the reload on it shows nothing more, goes blank, leads to the sign-in, and its socket closes."""
    monkeypatch.setattr(open_pages, "LEAVE_WITHIN", 0.5)
    browser = await opened(gateway, token, path)
    async with browser.socket() as socket:
        await until(socket, "update")  # it is live
        gateway.gateway.use(gateway.gateway.config, tokens)
        publish(gateway, 4711.25)
        text = await rest(socket)
    assert "/?problem=ended" in text
    assert text.endswith(CLOSE)
    assert "4711.25" not in text
    assert "runMethod" not in text.partition("/?problem=ended")[2]
    assert browser.client_id not in Client.instances
    async with browser.socket() as socket:
        assert "Implicit handshake failed" in await answered(socket)


async def test_a_socket_closes_whatever_the_browser_does(gateway: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """A browser that does not close its socket when its page has ended is cut off, and has learned nothing more."""
    monkeypatch.setattr(open_pages, "LEAVE_WITHIN", 0.5)
    for patience in ("ping_interval", "ping_timeout"):
        monkeypatch.setattr(core.sio.eio, patience, 0.5)
    browser = await opened(gateway, "acme-token", "/startups/acme")
    async with browser.socket() as socket:
        await until(socket, "update")
        gateway.gateway.use(gateway.gateway.config, Tokens(OTHERS, OPERATOR))
        await rest(socket)
        publish(gateway, 4711.25)
        with pytest.raises(websockets.ConnectionClosed):
            await answered(socket)


async def test_a_page_shows_what_arrives(gateway: Running) -> None:
    """The control: while the token holds, the reading is sent to the page."""
    browser = await opened(gateway, "acme-token", "/startups/acme")
    async with browser.socket() as socket:
        await until(socket, "update")
        publish(gateway, 4711.25)
        await until(socket, "4711.25")


async def test_nobody_opens_the_socket_of_another(gateway: Running) -> None:
    """Without a sign-in, with another's, or from another site; with its id, too."""
    acme = await opened(gateway, "acme-token", "/startups/acme")
    voltwise = await opened(gateway, "voltwise-token", "/startups/voltwise")
    for stranger in (Browser(gateway, "", acme.client_id), voltwise):
        async with stranger.socket(acme.client_id) as socket:
            assert "Implicit handshake failed" in await answered(socket)
    async with voltwise.socket() as socket:
        assert (await answered(socket)).startswith("40{")
        handshake = {"client_id": acme.client_id, "tab_id": "t", "document_id": "d", "next_message_id": None}
        await socket.send("421" + json.dumps(["handshake", handshake]))
        assert "431[false]" in await until(socket, "431[")


@pytest.mark.parametrize("query", [{"transport": "polling"}, {"padding": "x" * 2000}, {"transport": ""}])
async def test_other_transports_are_rejected(gateway: Running, query: dict[str, str]) -> None:
    """NiceGUI would keep something for each of them."""
    browser = await opened(gateway, "acme-token", "/startups/acme")
    with pytest.raises(websockets.InvalidStatus):
        async with browser.socket(**query):
            pass


GARBAGE: list[str] = [
    '42["log",{"client_id":"CLIENT","level":"error","message":"forged\\nline"}]',
    '42["log",{"client_id":"CLIENT","level":"nonsense"}]',
    '42["event",{"client_id":"CLIENT","id":3,"listener_id":"forged","args":["1"]}]',
    '42["event",{"client_id":"CLIENT","id":[],"args":7}]',
    '42["event",{"client_id":["forged"]}]',
    '42["event"]',
    '42["event",null,null,"forged"]',
    '42["ack",{"client_id":"CLIENT","next_message_id":"forged"}]',
    '42["javascript_response",{"client_id":"CLIENT"}]',
    '42["handshake",{"client_id":"CLIENT"}]',
    '42["handshake","forged"]',
    '42["forged",{}]',
    "42[",
    '42{"forged":1}',
    "42[]",
    "42[[]]",
    "44forged",
    "47",
    "451-",
    "4forged",
    "40/forged,",
    '40{"forged":1}',
]


async def test_a_browser_cannot_write_to_the_log(
    gateway: Running, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever its socket says: no traceback, and nothing that it chose."""
    browser = await opened(gateway, "acme-token", "/startups/acme")
    capfd.readouterr()
    caplog.clear()
    for garbage in GARBAGE:
        async with browser.socket() as socket:
            await until(socket, "40{")
            await socket.send(garbage.replace("CLIENT", browser.client_id))
    logged = capfd.readouterr().err + caplog.text
    assert "forged" not in logged
    assert "Traceback" not in logged
    async with browser.socket() as socket:
        await until(socket, "40{")
