"""The edge of HTTP as strangers meet it: what is answered before anything is read, and what is never read at all."""

from __future__ import annotations

import asyncio
import json
import resource
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from gateway.api import http_protocol
from gateway.api.auth import Tokens
from gateway.api.connections import SHARE_OF_ADDRESS, most
from tests.builders import rejection
from tests.running import Running, running, write_config
from tests.servers import WITHIN, eventually, free_port

REPLAY = "POST /v1/startups/acme/rejections/replay HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\n"
AS_ACME = "Authorization: Bearer acme-token\r\n"


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Running]:
    """A gateway without a broker: HTTP is there all the same."""
    config = write_config(tmp_path / "config", f"mqtt://127.0.0.1:{free_port()}")
    async with running(config, connected=False) as one:
        yield one


@asynccontextmanager
async def connected(gateway: Running) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rpartition(":")[2]))
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def answer_of(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], Any]:
    """Read one answer: its status, headers and JSON."""
    async with asyncio.timeout(WITHIN):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = await body_of(reader, headers)
    return int(head[0].split()[1]), headers, json.loads(body)


async def body_of(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    """Read the body of an answer, which is in chunks unless its length is known."""
    if "content-length" in headers:
        return await reader.readexactly(int(headers["content-length"]))
    body = b""
    while size := int(await reader.readline(), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    return body


async def asked(gateway: Running, *parts: str | bytes) -> tuple[int, dict[str, str], Any]:
    """Send bytes as they are; return the answer."""
    async with connected(gateway) as (reader, writer):
        for part in parts:
            writer.write(part.encode() if isinstance(part, str) else part)
        return await answer_of(reader)


async def ended(reader: asyncio.StreamReader) -> bytes:
    """Read until the gateway has closed the connection."""
    async with asyncio.timeout(WITHIN):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


@pytest.mark.parametrize("token", ["", "Authorization: Bearer wrong\r\n"])
async def test_a_stranger_is_answered_before_the_body(gateway: Running, token: str) -> None:
    """Without a valid token 401 comes while the body is still to be sent, and the connection is closed."""
    async with connected(gateway) as (reader, writer):
        writer.write(f"{REPLAY}{token}Content-Length: 200000000\r\n\r\n{{".encode())
        status, headers, problem = await answer_of(reader)
        assert (status, headers["connection"]) == (401, "close")
        assert problem["title"] == "Unauthorized"
        assert await ended(reader) == b""


async def test_a_stranger_is_not_asked_to_continue(gateway: Running) -> None:
    """A client that waits for 100 Continue gets 401 instead, and need not send its body."""
    status, _, _ = await asked(gateway, f"{REPLAY}Expect: 100-continue\r\nContent-Length: 10\r\n\r\n")
    assert status == 401


@pytest.mark.parametrize("length", ["Content-Length: 65537", "Transfer-Encoding: chunked"])
async def test_a_long_body_is_rejected(gateway: Running, length: str) -> None:
    """A body above 64 KiB is a 413, announced or in chunks, and the connection is closed."""
    chunk = b"4001\r\n" + b" " * 0x4001 + b"\r\n"
    async with connected(gateway) as (reader, writer):
        writer.write(f"{REPLAY}{AS_ACME}{length}\r\n\r\n".encode())
        if "chunked" in length:
            writer.write(4 * chunk)
        status, headers, problem = await answer_of(reader)
        assert (status, headers["content-type"]) == (413, "application/problem+json")
        assert "65536" in problem["detail"]
        await ended(reader)


async def test_a_body_up_to_the_limit_is_read(gateway: Running) -> None:
    """64 KiB are accepted, in one piece and in chunks."""
    body = b'{"ids": [1]}'.ljust(65536)
    whole = b"Content-Length: 65536\r\n\r\n" + body
    chunked = (
        b"Transfer-Encoding: chunked\r\n\r\n" + b"8000\r\n%s\r\n" * 2 % (body[:32768], body[32768:]) + b"0\r\n\r\n"
    )
    for sent in (whole, chunked):
        status, _, found = await asked(gateway, REPLAY, AS_ACME, sent)
        assert (status, found) == (200, {"results": [{"id": 1, "result": "not found"}]})


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /" + b"a" * 70_000, 414),
        (b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET /healthz HTTP/1.1\r\n" + b"a: b\r\n" * 20_000, 431),
        (b"GET /healthz HTTP/1.1\r\na: " + b"b" * 70_000, 431),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 200 + b"\r\n", 431),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: a\r\n\r\n", 400),
    ],
)
async def test_heads_are_bounded(gateway: Running, sent: bytes, status: int) -> None:
    """A URL or headers that are too long, or no HTTP at all, are answered and the connection closed."""
    async with connected(gateway) as (reader, writer):
        writer.write(sent)
        found, headers, problem = await answer_of(reader)
        assert (found, problem["status"]) == (status, status)
        assert headers["content-type"] == "application/problem+json"
        await ended(reader)


async def test_trailers_are_bounded(gateway: Running) -> None:
    """Headers after a chunked body are as limited as those before it."""
    async with connected(gateway) as (reader, writer):
        writer.write(
            b"GET /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * 20_000
        )
        await ended(reader)


async def test_many_requests_in_one_packet_are_answered_one_by_one(gateway: Running) -> None:
    """Pipelined requests wait for their turns, and each is answered."""
    request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    async with connected(gateway) as (reader, writer):
        writer.write(request * 200)
        for _ in range(200):
            assert (await answer_of(reader))[0] == 200


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"", b""),
        (b"GET /healthz HT", b"HTTP/1.1 408 "),
        (f"{REPLAY}{AS_ACME}Content-Length: 10\r\n\r\n1".encode(), b"HTTP/1.1 408 "),
    ],
    ids=["nothing", "half a head", "half a body"],
)
async def test_slow_requests_end(gateway: Running, monkeypatch: pytest.MonkeyPatch, sent: bytes, answer: bytes) -> None:
    """Whoever does not complete a request in time loses the connection."""
    monkeypatch.setattr(http_protocol, "COMPLETE_WITHIN", 0.3)
    async with connected(gateway) as (reader, writer):
        writer.write(sent)
        assert (await ended(reader)).startswith(answer)


async def test_whoever_takes_no_answer_is_cut_off(gateway: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that asks and asks and reads nothing loses the connection."""
    monkeypatch.setattr(http_protocol, "TAKEN_WITHIN", 0.3)
    async with connected(gateway) as (_, writer):
        writer.write(b"GET /docs/files/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
        await eventually(lambda: _is_cut_off(writer))


async def test_idle_connections_keep_nobody_out(gateway: Running) -> None:
    """However many connections an address leaves idle, it keeps its share, the newest; and requests are served."""
    own = len(list(Path("/proc/self/fd").iterdir()))
    limit = http_limit() // SHARE_OF_ADDRESS
    async with AsyncExitStack() as stack:
        first, _ = await stack.enter_async_context(connected(gateway))
        for _ in range(limit + 50):
            await stack.enter_async_context(connected(gateway))
        assert await ended(first) == b""
        served = len(list(Path("/proc/self/fd").iterdir())) - own - (limit + 51)
        assert served <= limit
        async with gateway.client("acme-token") as client:
            assert (await client.get("/v1/startups/acme")).status_code == 200


async def _is_cut_off(writer: asyncio.StreamWriter) -> bool:
    try:
        writer.write(b"\r\n")
        await writer.drain()
    except ConnectionError:
        return True
    return False


def http_limit() -> int:
    return most(resource.getrlimit(resource.RLIMIT_NOFILE)[0], tls=False)


async def test_live_feeds_outlast_every_limit(gateway: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream stays open for longer than a request may take, while idle connections come and go."""
    monkeypatch.setattr(http_protocol, "COMPLETE_WITHIN", 0.2)
    async with (
        gateway.client("acme-token") as client,
        client.stream("GET", "/v1/startups/acme/live") as stream,
    ):
        lines = stream.aiter_lines()
        assert await anext(lines) == "retry: 2000"
        for _ in range(3):
            async with connected(gateway) as (reader, _):
                await ended(reader)
        gateway.gateway.live.rejected([rejection()])
        async with asyncio.timeout(WITHIN):
            while await anext(lines) != "event: rejection":
                pass


async def test_a_closed_websocket_is_not_read_for_long(gateway: Running) -> None:
    """A peer that goes on sending after the gateway has closed its WebSocket is cut off."""
    handshake = (
        "GET /v1/startups/acme/live/ws HTTP/1.1\r\nHost: gateway\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" + AS_ACME + "\r\n"
    )
    frames = bytes((0x81, 0x80, 0, 0, 0, 0)) * 1000
    async with connected(gateway) as (reader, writer):
        writer.write(handshake.encode())
        async with asyncio.timeout(WITHIN):
            assert b"101" in await reader.readuntil(b"\r\n\r\n")
        await eventually(lambda: gateway.gateway.live.feed("acme").followers == 1)
        gateway.gateway.use(gateway.gateway.config, Tokens({}, None))
        gateway.gateway.live.rejected([rejection(b"x")])
        async with asyncio.timeout(WITHIN):
            await reader.readexactly(2)
        with pytest.raises(ConnectionError):
            await _go_on(writer, frames)


async def _go_on(writer: asyncio.StreamWriter, frames: bytes) -> None:
    for _ in range(300):
        writer.write(frames)
        await writer.drain()
        await asyncio.sleep(0.01)


async def test_a_right_token_works_at_once_among_wrong_ones(gateway: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a few wrong tokens the next wrong answer waits; a right token, from the same address, does not."""
    monkeypatch.setattr("gateway.api.guesses.DELAY", WITHIN)
    path = "/v1/startups/acme"
    async with gateway.client("wrong") as stranger, gateway.client("acme-token") as owner:
        answers = [(await stranger.get(path)).status_code for _ in range(10)]
        assert answers == [401] * 10
        guessing = asyncio.ensure_future(stranger.get(path))
        for _ in range(3):
            assert (await owner.get(path)).status_code == 200
        assert not guessing.done()
        guessing.cancel()


async def test_too_many_wrong_tokens_are_reported(gateway: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """The delayed answer says so, and when to come back."""
    monkeypatch.setattr("gateway.api.guesses.DELAY", 0.01)
    async with gateway.client("wrong") as stranger:
        answers = [await stranger.get("/metrics") for _ in range(11)]
    assert [one.status_code for one in answers] == [401] * 10 + [429]
    assert answers[-1].headers["retry-after"] == "60"


async def test_nothing_is_logged_about_strangers(gateway: Running, caplog: pytest.LogCaptureFixture) -> None:
    """What is no HTTP, or breaks off, leaves no line in the log."""
    for sent in (
        b"\x00\x01\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        f"{REPLAY}{AS_ACME}Content-Length: 10\r\n\r\n1".encode(),
    ):
        async with connected(gateway) as (_, writer):
            writer.write(sent)
            await writer.drain()
    async with gateway.client(None) as client:
        await eventually(lambda: _is_served(client))
    assert caplog.records == []


async def _is_served(client: Any) -> bool:
    return bool((await client.get("/healthz")).status_code == 200)


@pytest.mark.parametrize(("trusted", "is_believed"), [(["127.0.0.0/8"], True), ([], False)])
async def test_only_a_trusted_proxy_is_believed(tmp_path: Path, trusted: list[str], is_believed: bool) -> None:
    """What it says of scheme and client counts; what others say does not."""
    http = {"listen": "127.0.0.1:0", "console": False, "trusted_proxies": trusted}
    config = write_config(tmp_path / "config", f"mqtt://127.0.0.1:{free_port()}", http=http)
    async with running(config, connected=False) as gateway, gateway.client(None) as client:
        answer = await client.get("/healthz", headers={"X-Forwarded-Proto": "https"})
    assert ("strict-transport-security" in answer.headers) is is_believed


@pytest.mark.parametrize("path", ["/healthz", "/v1/nothing", "/docs", "/openapi.json", "/nothing"])
async def test_every_answer_has_security_headers(gateway: Running, path: str) -> None:
    """Nothing is framed, guessed at or linked back to, whatever is answered; HSTS is for TLS alone."""
    async with gateway.client(None) as client:
        headers = (await client.get(path)).headers
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "strict-transport-security" not in headers
