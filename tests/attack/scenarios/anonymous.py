"""Requests without a token: anybody who reaches the HTTP port."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator

from tests.attack.bed import Bed
from tests.attack.layout import VICTIM
from tests.attack.messages import Block
from tests.attack.scenario import attack

REPLAY = f"/v1/startups/{VICTIM}/rejections/replay"
FORGED = "forged-by-an-attacker"
LOG_KIB = 1024
"""KiB that an attack may add to the log, in all."""


@attack("bodies of 200 MiB before authentication, four at a time")
async def large_bodies(bed: Bed) -> AsyncIterator[None]:
    size = 200 << 20
    head = bed.request(REPLAY, method="POST", who=None, more=[f"Content-Length: {size}"])
    async with bed.http(head, Block(b"[1," * (1 << 20), 1), connections=4, what="blocks", again=True):
        yield


@attack("chunked bodies without an end, before authentication, four at a time")
async def endless_bodies(bed: Bed) -> AsyncIterator[None]:
    head = bed.request(REPLAY, method="POST", who=None, more=["Transfer-Encoding: chunked"])
    chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    async with bed.http(head, Block(chunk * 16, 16), connections=4, what="chunks", again=True):
        yield


@attack("headers without an end, four requests at a time")
async def endless_headers(bed: Bed) -> AsyncIterator[None]:
    head = b"GET /healthz HTTP/1.1\r\nHost: gateway\r\n"
    async with bed.http(head, Block(b"X-A: b\r\n" * 100_000, 100_000), connections=4, what="headers", again=True):
        yield


@attack("2,000 idle connections from one address, opened again when they end")
async def idle_connections(bed: Bed) -> AsyncIterator[None]:
    async with bed.http(b"", connections=bed.scale.of(2000), again=True):
        yield


@attack("2,000 idle connections from 200 addresses")
async def idle_from_many(bed: Bed) -> AsyncIterator[None]:
    async with bed.http(b"", connections=bed.scale.of(2000), addresses=200, again=True):
        yield


@attack("1,000 requests that send a header every few seconds")
async def slow_headers(bed: Bed) -> AsyncIterator[None]:
    head = b"GET /healthz HTTP/1.1\r\nHost: gateway\r\n"
    count = bed.scale.of(1000)
    async with bed.http(head, Block(b"X-A: b\r\n", 1), connections=count, what="headers", rate=count / 3, again=True):
        yield


@attack("guesses of tokens, pipelined on 20 connections")
async def guessed_tokens(bed: Bed) -> AsyncIterator[None]:
    def guess(number: int) -> bytes:
        more = [f"Authorization: Bearer guess-{number:08}"]
        return bed.request(f"/v1/startups/{VICTIM}", who=None, more=more)

    block = Block(b"".join(map(guess, range(1000))), 1000)
    async with bed.http(b"", block, connections=20, what="guesses", again=True):
        yield


@attack("lines forged for the log, in URLs, in headers and over the web page's WebSocket")
async def forged_log_lines(bed: Bed) -> AsyncIterator[None]:
    before = len(bed.gateway.log)
    async with (
        bed.http(b"", Block(_forged_request() * 100, 100), connections=4, what="requests", again=True),
        bed.http(_upgrade(bed), Block(_forged_frames(), 1), connections=4, what="groups of frames", again=True),
    ):
        yield
    added = bed.gateway.log[before:]
    lines = added.splitlines()
    size = len(added) / 1024
    bed.check(f"the log grew by at most {LOG_KIB} KiB (it did by {size:,.0f})", size <= LOG_KIB)
    bed.check("each line of the log is an object of JSON", all(map(_is_object, lines)))
    bed.check("no line of the log has a control character", not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", added))


def _forged_request() -> bytes:
    line = f'%0a{{"event":"{FORGED}"}}%1b[2J'
    head = f"GET /{line} HTTP/1.1\r\nHost: gateway\r\nX-Forged: \x1b[2J{FORGED}\r\nUser-Agent: {FORGED}\x9b\r\n\r\n"
    return head.encode() + f"BROKEN \n{FORGED}\r\n\r\n".encode()


def _upgrade(bed: Bed) -> bytes:
    """Return the request that opens the WebSocket of the web page, with a key that everybody knows."""
    more = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
    more += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", f"Origin: http://127.0.0.1:{bed.http_port}"]
    return bed.request("/_nicegui_ws/socket.io/?EIO=4&transport=websocket", who=None, more=more)


def _forged_frames() -> bytes:
    """Return frames with a mask of zeros, which are Socket.IO's: a greeting, and events that nobody expects."""
    forged = f'\n{{"event":"{FORGED}"}}\x1b[2J'
    events = [["event", forged], ["javascript_response", {"error": forged}], ["log", forged], [forged, {}], ["ack", 1]]
    texts = ["40", *(f"42{json.dumps(one)}" for one in events), f"42{forged}", "451-", f"9{forged}"]
    return b"".join(map(_frame, texts))


def _frame(text: str) -> bytes:
    body = text.encode()
    assert len(body) < 126
    return bytes((0x81, 0x80 | len(body), 0, 0, 0, 0)) + body


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
