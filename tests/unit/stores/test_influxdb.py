"""`InfluxDBStore`: its requests, and what it does with every kind of answer; tests/contract has the rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qsl

import pytest
from aiohttp import web

from gateway.config.models import InfluxDB
from gateway.errors import StoreRefused, StoreThrottled, StoreUnavailable, StoreUnreachable, StoreUnreadable
from gateway.stores import influxql
from gateway.stores.contract import Query, Row
from gateway.stores.influxdb import CHUNK, InfluxDBStore
from gateway.stores.influxdb_server import BODY
from tests.builders import latest
from tests.servers import FlakyProxy, eventually, free_port

LINE = b"climate,device=th-1 temperature=21.5 1763900000000000000"
HELD = LINE.replace(b"th-1", b"held")
EVERYTHING = Query("climate", 0, 1 << 62)
FIELD_KEYS = {"name": "climate", "columns": ["fieldKey", "fieldType"], "values": [["t", "float"], ["n", "integer"]]}


def json(document: object) -> str:
    return web.json_response(document).text or ""


def page(*series: Mapping[str, Any], **further: str) -> dict[str, Any]:
    """One document of an answer to a query."""
    return {"results": [{"statement_id": 0, "series": series, **further}]}


def rows(*values: tuple[int, float | None, int | None]) -> dict[str, Any]:
    return {"name": "climate", "tags": {"device": "a", "zone": ""}, "columns": ["time", "t", "n"], "values": values}


@dataclass
class Request:
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Stub:
    """Answers as a test says, and keeps the requests. `pages` are the answers to queries: at `HOLD` one waits for
    `go_on`, at `CUT` its connection breaks. A write of `HELD` waits for `go_on` too."""

    port: int = field(default_factory=free_port)
    status: int = 204
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    pages: list[list[str]] = field(default_factory=list)
    asked: list[Request] = field(default_factory=list)
    token: str = ""
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def answer(self, request: web.Request) -> web.StreamResponse:
        asked = Request(request.path, dict(request.query), request.headers, await request.read())
        self.asked.append(asked)
        if asked.body == HELD:
            await self.go_on.wait()
        if self.token and request.headers.get("Authorization") != f"Token {self.token}":
            return web.Response(status=401, text='{"code":"unauthorized","message":"unauthorized access"}')
        if not self.pages:
            return web.Response(status=self.status, text=self.body, headers=self.headers)
        response = web.StreamResponse()
        await response.prepare(request)
        for text in self.pages.pop(0):
            if text == "CUT":
                assert request.transport is not None
                request.transport.abort()
            if text == "HOLD":
                await self.go_on.wait()
            else:
                await response.write(text.encode())
        return response


@pytest.fixture
async def stub() -> AsyncIterator[Stub]:
    stub = Stub()
    app = web.Application(client_max_size=0)
    app.router.add_route("*", "/{path:.*}", stub.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", stub.port).start()
    yield stub
    stub.go_on.set()
    await runner.cleanup()


@pytest.fixture
async def network(stub: Stub) -> AsyncIterator[FlakyProxy]:
    async with FlakyProxy.before(stub) as proxy:
        yield proxy


@pytest.fixture
async def store(network: FlakyProxy) -> AsyncIterator[InfluxDBStore]:
    store = InfluxDBStore(InfluxDB(url=f"{network.url}/", org="lab", bucket="bed-{startup}"), "secret")
    await store.open()
    yield store
    await store.close()


async def read(store: InfluxDBStore, query: Query = EVERYTHING) -> list[Row]:
    return [row async for chunk in store.history("acme", query) for row in chunk]


# ------------------------------------------------------------------ writes


async def test_write_sends_lines_unchanged(store: InfluxDBStore, stub: Stub) -> None:
    """Lines go unchanged to the startup's bucket, with their precision and the token."""
    await store.write("acme", [LINE, LINE])
    (request,) = stub.asked
    assert request.path == "/api/v2/write"
    assert request.query == {"org": "lab", "bucket": "bed-acme", "precision": "ns"}
    assert request.headers["Authorization"] == "Token secret"
    assert "Content-Encoding" not in request.headers
    assert request.body == LINE + b"\n" + LINE


async def test_empty_batch_sends_nothing(store: InfluxDBStore, stub: Stub) -> None:
    """An empty batch is stored without a request."""
    await store.write("acme", [])
    assert stub.asked == []


async def test_large_batch_is_split(store: InfluxDBStore, stub: Stub) -> None:
    """No body is longer than proxies allow, and no line is lost between two."""
    lines = [LINE.replace(b"th-1", b"d%06d" % number) for number in range(40_000)]
    await store.write("acme", lines)
    assert len(stub.asked) == 3
    assert all(len(request.body) <= BODY for request in stub.asked)
    assert b"\n".join(request.body for request in stub.asked).split(b"\n") == lines


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_faulty_data_is_refused(store: InfluxDBStore, stub: Stub, status: int) -> None:
    """A status that blames the data is a refusal, in the server's words."""
    stub.status, stub.body = status, '{"code": "invalid", "message": "field type conflict: \\"t\\""}'
    with pytest.raises(StoreRefused, match='field type conflict: "t"'):
        await store.write("acme", [LINE])


@pytest.mark.parametrize(
    "body",
    [
        '{"error":"partial write: field type conflict: input field \\"t\\" is type string, already float dropped=1"}',
        '{"error":"partial write: points beyond retention policy dropped=1"}',
        '{"error":"unable to parse \'bad\': missing fields"}',
        '{"error":"partial write of line protocol occurred","data":[{"line_number":1,"error_message":"invalid"}]}',
        '{"code":"unprocessable entity","message":"failure writing points to database: partial write"}',
    ],
)
async def test_every_influxdb_may_refuse(store: InfluxDBStore, stub: Stub, body: str) -> None:
    """The versions of InfluxDB say in different JSON that points are at fault; each is a refusal."""
    stub.status, stub.body = 400, body
    with pytest.raises(StoreRefused):
        await store.write("acme", [LINE])


FOREIGN = [
    "",
    "<html><body><h1>400 Bad Request</h1></body></html>",
    '{"code":"invalid","mess',
    "[]",
    "null",
    "[" * 30_000,
    '{"code":400,"message":"Bad Request"}',
    '{"code":"BAD_REQUEST","message":"no"}',
    '{"error":"Bad Request"}',
    '{"error":{"message":"partial write"}}',
    '{"message":"Invalid request"}',
    '{"error":"database is required"}',
    '"unable to parse"',
]


@pytest.mark.parametrize("status", [400, 413, 422])
@pytest.mark.parametrize("body", FOREIGN)
async def test_what_others_answer_refuses_nothing(store: InfluxDBStore, stub: Stub, status: int, body: str) -> None:
    """A status that blames the data, without InfluxDB's own words, is that of something in front of it: the readings
    are sent again, and the error names what answered."""
    stub.status, stub.body, stub.headers = status, body, {"Server": "nginx/1.22.1"}
    with pytest.raises(StoreUnavailable, match=str(status)) as raised:
        await store.write("acme", [LINE])
    assert "nginx/1.22.1" in str(raised.value)


async def test_long_request_is_shortened(store: InfluxDBStore, stub: Stub) -> None:
    """A request that is too long for anybody is sent in shorter ones; only InfluxDB refuses a single reading for it."""
    stub.status, stub.body = 413, "<html>413 Request Entity Too Large</html>"
    with pytest.raises(StoreUnavailable, match="shorter requests"):
        await store.write("acme", [LINE] * 100)
    assert store.bytes_at_once("acme") <= len(LINE) * 51
    assert store.bytes_at_once("birch") == BODY
    with pytest.raises(StoreUnavailable, match="client_max_body_size"):
        await store.write("acme", [LINE])
    stub.body = '{"code":"request too large","message":"points batch is too large"}'
    with pytest.raises(StoreUnavailable, match="shorter requests"):
        await store.write("birch", [LINE, LINE])
    with pytest.raises(StoreRefused):
        await store.write("acme", [LINE])
    stub.status, stub.body = 204, ""
    for _ in range(400):
        await store.write("acme", [LINE] * max(1, store.bytes_at_once("acme") // (len(LINE) + 1)))
    assert store.bytes_at_once("acme") == BODY


@pytest.mark.parametrize("status", [400, 403, 408, 502, 504])
async def test_proxy_that_balks_gets_shorter_requests(store: InfluxDBStore, stub: Stub, status: int) -> None:
    """Whatever a proxy dislikes about a long request, the next one is shorter; what InfluxDB says changes nothing."""
    stub.status, stub.body = status, '{"code":"internal error","message":"timeout"}'
    with pytest.raises(StoreUnavailable):
        await store.write("acme", [LINE] * 10_000)
    assert store.bytes_at_once("acme") == BODY
    stub.body = "<html>no</html>"
    with pytest.raises(StoreUnavailable):
        await store.write("acme", [LINE] * 10_000)
    assert store.bytes_at_once("acme") < BODY / 2


@pytest.mark.parametrize("status", [200, 201, 202, 206])
async def test_only_204_is_stored(store: InfluxDBStore, stub: Stub, status: int) -> None:
    """A success that InfluxDB never answers is not taken for stored."""
    stub.status, stub.body = status, "<html>Welcome</html>"
    with pytest.raises(StoreUnavailable, match="not an InfluxDB response"):
        await store.write("acme", [LINE])


async def test_endless_answer_is_cut(store: InfluxDBStore, stub: Stub) -> None:
    """No more is read of a failure's answer than a message needs."""
    stub.status, stub.body = 400, "x" * (8 << 20)
    with pytest.raises(StoreUnavailable) as raised:
        await store.write("acme", [LINE])
    assert len(str(raised.value)) < 1000


async def test_slow_link_gets_shorter_requests(network: FlakyProxy, stub: Stub) -> None:
    """Over a link that takes longer than the timeout for a body, each attempt sends less, until all of it arrives; over
    a quick one bodies grow again."""
    store = InfluxDBStore(InfluxDB(url=network.url).model_copy(update={"timeout": 0.5}), "secret")
    await store.open()
    lines = [LINE.replace(b"th-1", b"d%06d" % number) for number in range(4_000)]

    async def arrives() -> bool:
        try:
            await store.write("acme", lines[: store.bytes_at_once("acme") // (len(lines[0]) + 1)])
        except StoreUnavailable:
            return False
        return True

    network.slow_down(200_000)
    assert not await arrives()
    assert store.bytes_at_once("acme") < BODY / 4
    await eventually(arrives)
    network.heal()

    async def grows() -> bool:
        await arrives()
        return store.bytes_at_once("acme") >= len(lines) * len(lines[0]) // 2

    await eventually(grows)
    await store.close()


async def test_single_long_reading_gets_its_time(network: FlakyProxy, stub: Stub) -> None:
    """A reading that alone takes longer than the timeout over a slow link arrives all the same."""
    store = InfluxDBStore(InfluxDB(url=network.url).model_copy(update={"timeout": 0.3}), "secret")
    await store.open()
    network.slow_down(200_000)
    line = LINE.replace(b"th-1", b"x" * 120_000)

    async def arrives() -> bool:
        try:
            await store.write("acme", [line])
        except StoreUnavailable:
            return False
        return True

    await eventually(arrives)
    assert stub.asked[-1].body == line
    await store.close()


@pytest.mark.parametrize("status", [401, 403])
async def test_rejected_token_is_unavailable(store: InfluxDBStore, stub: Stub, status: int) -> None:
    """A rejected token is not the data's fault; the error names the setting to correct."""
    stub.status, stub.body = status, '{"code": "unauthorized", "message": "unauthorized access"}'
    with pytest.raises(StoreUnavailable, match=r"token.*bed-acme.*unauthorized access.*token_file"):
        await store.write("acme", [LINE])


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (401, r"stores\.hall-2\.influxdb\.token_file or GATEWAY_INFLUXDB_TOKEN_HALL_2"),
        (404, r"stores\.hall-2\.influxdb\.bucket"),
        (302, r"stores\.hall-2\.influxdb\.url"),
    ],
)
async def test_named_store_names_its_own_settings(stub: Stub, status: int, says: str) -> None:
    """An error of a further store names that store's settings."""
    stub.status = status
    store = InfluxDBStore(InfluxDB(url=stub.url), "secret", name="hall-2")
    await store.open()
    with pytest.raises(StoreUnavailable, match=says):
        await store.write("acme", [LINE])
    await store.close()


async def test_renewed_token_is_used_at_once(stub: Stub) -> None:
    """When InfluxDB rejects the token, the one that is on disk now is used at once, by all writes and queries."""
    stub.token = "new"
    renewals: list[str] = []

    def renew() -> str:
        renewals.append("asked")
        return "new"

    store = InfluxDBStore(InfluxDB(url=stub.url), "old", renew)
    await store.open()
    await asyncio.gather(*(store.write("acme", [LINE]) for _ in range(5)))
    assert renewals == ["asked"]
    assert [one.headers["Authorization"] for one in stub.asked[-5:]] == ["Token new"] * 5
    stub.pages = [[json(page())]]
    assert await store.measurements("acme") == []
    stub.token = "newer"
    with pytest.raises(StoreUnavailable, match="token"):
        await store.write("acme", [LINE])
    with pytest.raises(StoreUnavailable, match="token"):
        await store.measurements("acme")
    await store.close()


async def test_late_rejection_of_an_old_token_is_tried_again(stub: Stub) -> None:
    """A write whose rejection arrives after another write has renewed the token is sent again with the new one."""
    stub.token = "new"
    store = InfluxDBStore(InfluxDB(url=stub.url), "old", lambda: "new")
    await store.open()
    held = asyncio.create_task(store.write("acme", [HELD]))
    await eventually(lambda: stub.asked)
    await store.write("acme", [LINE])
    stub.go_on.set()
    await held
    assert stub.asked[-1].body == HELD
    await store.close()


async def test_renewed_token_leaves_running_answers_alone(stub: Stub) -> None:
    """A history under way goes on to its end while a write renews the token."""
    store = InfluxDBStore(InfluxDB(url=stub.url), "old", lambda: "new")
    await store.open()
    first, last = (f"{json(page(rows(*((at, 1.0, 1) for at in part))))}\n" for part in (range(CHUNK), [CHUNK]))
    stub.pages = [[json(page(FIELD_KEYS))], [first, "HOLD", last]]
    async with aclosing(store.history("acme", EVERYTHING)) as chunks:
        assert len(await anext(chunks)) == CHUNK
        stub.token = "new"
        await store.write("acme", [LINE])
        stub.go_on.set()
        assert [len(chunk) async for chunk in chunks] == [1]
    await store.close()


async def test_missing_bucket_is_unavailable(store: InfluxDBStore, stub: Stub) -> None:
    """A missing bucket or organisation is not the data's fault; the error names both."""
    stub.status, stub.body = 404, '{"code": "not found", "message": "bucket \\"bed-acme\\" not found"}'
    with pytest.raises(StoreUnavailable, match=r"bed-acme.*lab.*gateway provision"):
        await store.write("acme", [LINE])


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429])
@pytest.mark.parametrize("body", ["", '{"message": "engine: too busy"}', "<html>Bad gateway</html>"])
async def test_server_in_trouble_is_unavailable(store: InfluxDBStore, stub: Stub, status: int, body: str) -> None:
    """Without Retry-After, a server in trouble is unavailable, whatever its answer's body."""
    stub.status, stub.body = status, body
    with pytest.raises(StoreUnavailable, match=str(status)) as raised:
        await store.write("acme", [LINE])
    assert type(raised.value) is StoreUnavailable


@pytest.mark.parametrize("status", [429, 503])
async def test_server_requests_a_pause(store: InfluxDBStore, stub: Stub, status: int) -> None:
    """Retry-After in seconds says how long to wait."""
    stub.status, stub.headers = status, {"Retry-After": "17"}
    with pytest.raises(StoreThrottled) as raised:
        await store.write("acme", [LINE])
    assert raised.value.retry_after == 17


@pytest.mark.parametrize(("seconds", "expected"), [(100, 100), (-100, 0)])
async def test_requested_pause_may_be_a_date(store: InfluxDBStore, stub: Stub, seconds: int, expected: int) -> None:
    """Retry-After as an HTTP date is the time until then, and none when that has gone by."""
    until = datetime.now(UTC) + timedelta(seconds=seconds)
    stub.status, stub.headers = 429, {"Retry-After": format_datetime(until, usegmt=True)}
    with pytest.raises(StoreThrottled) as raised:
        await store.write("acme", [LINE])
    assert raised.value.retry_after == pytest.approx(expected, abs=5)


@pytest.mark.parametrize(
    "value",
    [
        "soon",
        "-5",
        "nan",
        "inf",
        "1e400",
        "9" * 5000,
        "\u0663",
        "Fri, 99 Dec 9999 99:99:99 GMT",
        "Fri, 31 Dec 99999 23:59:59 GMT",
        "Fri, 31 Dec 9999 23:59:59 -9999",
        "Sat, 01 Jan 0001 00:00:00 +9959",
        ",",
        "0x10",
    ],
)
async def test_invalid_pause_is_ignored(store: InfluxDBStore, stub: Stub, value: str) -> None:
    """A Retry-After that is neither a number nor a date that can be waited for is ignored."""
    stub.status, stub.headers = 429, {"Retry-After": value}
    with pytest.raises(StoreUnavailable) as raised:
        await store.write("acme", [LINE])
    assert type(raised.value) is StoreUnavailable


@pytest.mark.parametrize("status", [200, 301, 302, 405])
async def test_answer_of_another_server_is_unavailable(store: InfluxDBStore, stub: Stub, status: int) -> None:
    """An answer that InfluxDB does not give, even a success, does not count as stored; a redirect is not followed."""
    stub.status, stub.headers = status, {"Location": "/elsewhere"}
    with pytest.raises(StoreUnavailable, match=r"store\.influxdb\.url"):
        await store.write("acme", [LINE])
    assert len(stub.asked) == 1


@pytest.mark.parametrize("status", [301, 307])
async def test_redirected_query_is_not_followed(store: InfluxDBStore, stub: Stub, status: int) -> None:
    """A redirect of a query is an error with the setting to look at: the token goes to no other address."""
    stub.status, stub.headers = status, {"Location": "/elsewhere"}
    with pytest.raises(StoreUnavailable, match=r"store\.influxdb\.url"):
        await store.measurements("acme")
    assert len(stub.asked) == 1


async def test_hidden_bucket_differs_from_an_empty_one(store: InfluxDBStore, stub: Stub) -> None:
    """SHOW MEASUREMENTS finds nothing in either, without an error; a SELECT shows the difference."""
    stub.pages = [[json(page())], [json(page(error="database not found: bed-acme"))]]
    await store.check_readable("acme")
    with pytest.raises(StoreUnreadable, match="no bucket 'bed-acme'.*may not read it"):
        await store.check_readable("acme")


async def test_unreachable_server_recovers(store: InfluxDBStore, stub: Stub, network: FlakyProxy) -> None:
    """While the server is out of reach nothing can be written or read; when it is back, everything can."""
    network.cut()
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        await store.write("acme", [LINE])
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        await store.measurements("acme")
    network.heal()
    await store.write("acme", [LINE])
    assert stub.asked[-1].body == LINE


async def test_unresponsive_server_is_unavailable(network: FlakyProxy) -> None:
    """A server that takes longer than the timeout is unavailable, to writes and queries."""
    store = InfluxDBStore(InfluxDB(url=network.url).model_copy(update={"timeout": 0.2}), "secret")
    await store.open()
    network.stall()
    with pytest.raises(StoreUnavailable, match="no answer within 0.2 s"):
        await store.write("acme", [LINE])
    with pytest.raises(StoreUnavailable, match=r"cannot be reached: .*[Tt]imeout"):
        await latest(store, "acme")
    await store.close()


async def test_bucket_that_hangs_says_nothing_of_the_others(network: FlakyProxy) -> None:
    """A write without an answer is not taken for a server that is away: no other startup's write is spared for it."""
    store = InfluxDBStore(InfluxDB(url=network.url).model_copy(update={"timeout": 0.2}), "secret")
    await store.open()
    network.stall()
    with pytest.raises(StoreUnavailable) as raised:
        await store.write("acme", [LINE])
    assert not isinstance(raised.value, StoreUnreachable)
    await store.close()


async def test_store_opens_without_a_server() -> None:
    """Opening needs no server to be there."""
    store = InfluxDBStore(InfluxDB(url=f"http://127.0.0.1:{free_port()}"), "secret")
    await store.open()
    with pytest.raises(StoreUnavailable):
        await store.write("acme", [LINE])
    await store.close()


# ------------------------------------------------------------------ queries


async def test_query_sends_its_statement(store: InfluxDBStore, stub: Stub) -> None:
    """A query goes to `/query` as a form, with the same token as writes, and requests an answer in chunks."""
    stub.pages = [[json(page())]]
    await store.measurements("acme")
    (request,) = stub.asked
    assert request.path == "/query"
    assert request.headers["Authorization"] == "Token secret"
    form = {"db": "bed-acme", "q": "SHOW MEASUREMENTS", "epoch": "ns", "chunked": "true", "chunk_size": str(CHUNK)}
    assert dict(parse_qsl(request.body.decode())) == form


async def test_rows_arrive_before_the_answer_ends(store: InfluxDBStore, stub: Stub) -> None:
    """A chunk of rows is there while the server is still sending: a long answer is never in memory as a whole."""
    stub.pages = [[json(page(FIELD_KEYS))], [json(page(rows(*((at, 1.0, 1) for at in range(CHUNK))))) + "\n", "HOLD"]]
    async with aclosing(store.history("acme", EVERYTHING)) as chunks:
        assert len(await anext(chunks)) == CHUNK


async def test_slow_readers_do_not_hold_up_writes(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where as many histories are under way as may be, a further query waits for one to end; a write goes through."""
    monkeypatch.setattr("gateway.stores.influxdb_server.QUERIES_AT_ONCE", 2)
    store = InfluxDBStore(InfluxDB(url=stub.url), "secret")
    await store.open()
    long = [json(page(rows(*((at, 1.0, 1) for at in range(CHUNK))))) + "\n", "HOLD"]
    stub.pages = [[json(page(FIELD_KEYS))], long, [json(page(FIELD_KEYS))], long, [json(page())]]
    histories = [store.history("acme", EVERYTHING) for _ in range(2)]
    for history in histories:
        await anext(history)
    waiting = asyncio.create_task(store.measurements("acme"))
    stub.pages, pages = [], stub.pages
    await asyncio.gather(*(store.write("acme", [LINE]) for _ in range(store.writes_at_once)))
    assert not waiting.done()
    stub.pages = pages
    for history in histories:
        await history.aclose()
    assert await waiting == []
    await store.close()


async def test_answer_in_pieces(store: InfluxDBStore, stub: Stub) -> None:
    """An answer is read as it arrives, wherever it is cut into pieces; 21 of a float field is 21.0."""
    text = "".join(f"{json(page(rows((at, 21.0, at))))}\n" for at in range(3))
    stub.pages = [[json(page(FIELD_KEYS))], [text[:70], text[70:71], text[71:]]]
    found = await read(store)
    assert found == [Row(at, {"device": "a"}, {"t": 21.0, "n": at}) for at in range(3)]
    assert [(type(row.fields["t"]), type(row.fields["n"])) for row in found] == [(float, int)] * 3


async def test_missing_database_is_empty(store: InfluxDBStore, stub: Stub) -> None:
    """A bucket that does not exist yet has no rows."""
    missing = json(page(error="database not found: bed-acme"))
    stub.pages = [[missing], [missing], [missing]]
    assert await store.measurements("acme") == []
    assert await read(store) == []
    assert await latest(store, "acme") == []


@pytest.mark.parametrize("text", ['{"error": "engine gave up"}', '{"results": [{"error": "engine gave up"}]}'])
async def test_error_in_an_answer_is_raised(store: InfluxDBStore, stub: Stub, text: str) -> None:
    """An error inside a 200 answer is an error, even after rows."""
    stub.pages = [[json(page(FIELD_KEYS))], [json(page(rows((1, 1.0, 1)))) + "\n", text]]
    with pytest.raises(StoreUnavailable, match="engine gave up"):
        await read(store)


def answer_of(columns: object, values: object, tags: object = None, name: object = "climate") -> str:
    return json({"results": [{"series": [{"name": name, "tags": tags, "columns": columns, "values": values}]}]})


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        answer_of(["time", "t"], [["today", 1.0]]),
        answer_of(["time", "t"], [[10**30, 1.0]]),
        answer_of(["time", "t"], [[None, 1.0]]),
        answer_of(["time", "t"], [[1, {"a": 1}]]),
        answer_of(["time", "t"], [[1]]),
        answer_of(["time", "t"], [[]]),
        answer_of(["time", "t"], 7),
        answer_of(["time", 7], [[1, 1.0]]),
        answer_of(["time", "n"], [[1, 10**40]]),
        answer_of(["time", "t"], [[1, 1.0]], tags={"device": 7}),
        answer_of(["time", "t"], [[1, 1.0]], tags=[1]),
        answer_of(["time", "t"], [[1, 1.0]], name=[]),
        '{"results":[{"series":[{"name":"climate","columns":["time","n"],"values":[[1,1e999]]}]}]}',
        '{"results":[{"series":[{"name":"climate","columns":["time","t"],"values":[[1,NaN]]}]}]}',
        '{"results":[{"error":7}]}',
        "9" * 5000,
    ],
)
async def test_odd_rows_are_unavailable(store: InfluxDBStore, stub: Stub, text: str) -> None:
    """Whatever a server answers to a query, the error is one of the store's: no query ends with a traceback."""
    stub.pages = [[json(page(FIELD_KEYS))], [text]]
    with pytest.raises(StoreUnavailable):
        await read(store)
    stub.pages = [[json(page(FIELD_KEYS))], [text]]
    with pytest.raises(StoreUnavailable):
        await latest(store, "acme")


async def test_answers_without_end_are_unavailable(
    store: InfluxDBStore, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line without an end, and names without an end, do not fill the memory."""
    monkeypatch.setattr("gateway.stores.influxdb_server.LINE", 100_000)
    stub.pages = [["x" * 60_000] * 3]
    with pytest.raises(StoreUnavailable, match="more than 100,000 bytes"):
        await store.measurements("acme")
    monkeypatch.setattr("gateway.stores.influxdb.NAMES", 5)
    stub.pages = [[answer_of(["name"], [["a"], ["b"], ["c"]]) + "\n"] * 3]
    with pytest.raises(StoreUnavailable, match="more than 5"):
        await store.measurements("acme")


@pytest.mark.parametrize("values", [[[7]], [[]], [["a", "b"]], [[None]], 7, [7]])
async def test_odd_names_are_unavailable(store: InfluxDBStore, stub: Stub, values: object) -> None:
    """Names that are no names are an error of the store, too."""
    text = answer_of(["name"], values)
    stub.pages = [[text]]
    with pytest.raises(StoreUnavailable):
        await store.measurements("acme")
    stub.pages = [[text], [json(page(FIELD_KEYS))]]
    with pytest.raises(StoreUnavailable):
        await store.columns("acme", "climate")


@pytest.mark.parametrize(
    "head",
    [
        "HTTP/1.1 204 No Content\r\nContent-Length: -5\r\n\r\n",
        "HTTP/1.1 204 No Content\r\nContent-Length: 1e9\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 400 Bad Request\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope",
        "HTTP/1.1 99999 Odd\r\n\r\n",
        "HTTP/9.9 204 No Content\r\n\r\n",
        "HTTP/1.1 400 Bad Request\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n",
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/html; charset=\xff\r\nContent-Length: 2\r\n\r\n\xff\xfe",
        f"HTTP/1.1 400 {'x' * 100_000}\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "",
    ],
)
async def test_answer_that_is_not_http_is_unavailable(head: str) -> None:
    """Bytes that are not HTTP, or not quite, are an error of the store, to writes and queries."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head.encode("latin-1"))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    store = InfluxDBStore(InfluxDB(url=f"http://127.0.0.1:{port}").model_copy(update={"timeout": 2.0}), "secret")
    await store.open()
    with pytest.raises(StoreUnavailable):
        await store.write("acme", [LINE])
    with pytest.raises(StoreUnavailable):
        await store.measurements("acme")
    await store.close()
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("text", ["<html>Welcome</html>", "[]", '{"results": [{"series": [{}]}]}', '{"results": [1]}'])
async def test_page_of_another_server_is_unavailable(store: InfluxDBStore, stub: Stub, text: str) -> None:
    """A 200 with anything but InfluxDB's own form is an error."""
    stub.pages = [[text]]
    with pytest.raises(StoreUnavailable, match="not an InfluxDB response"):
        await store.measurements("acme")


async def test_interrupted_answer_is_an_error(store: InfluxDBStore, stub: Stub) -> None:
    """A connection that is lost half-way is an error, not the end of the rows."""
    stub.pages = [[json(page(FIELD_KEYS))], [json(page(rows((1, 1.0, 1)))) + "\n", "CUT"]]
    with pytest.raises(StoreUnavailable):
        await read(store)


@pytest.mark.parametrize(
    ("status", "says"), [(400, "query"), (401, "token_file"), (404, "bed-acme"), (500, "now"), (502, "now")]
)
async def test_failed_query_is_unavailable(store: InfluxDBStore, stub: Stub, status: int, says: str) -> None:
    """Every failure of a query is for the operator: there is no data that could be refused."""
    stub.status, stub.body = status, '{"error": "as it was said"}'
    with pytest.raises(StoreUnavailable, match=f"(?s)(?=.*{says})(?=.*as it was said)"):
        await store.measurements("acme")


async def test_query_is_throttled(store: InfluxDBStore, stub: Stub) -> None:
    """A requested pause holds for queries as for writes."""
    stub.status, stub.headers = 503, {"Retry-After": "3"}
    with pytest.raises(StoreThrottled):
        await store.measurements("acme")


def test_names_and_strings_are_quoted() -> None:
    """No name or device can end its quotes."""
    asked = Query('m" or\n', 1, 2, device="a\\' OR 1=1 --", every_ns=5)
    assert influxql.history(asked, {'f"\\': "float", "on": "boolean"}) == (
        'SELECT mean("f\\"\\\\") AS "f\\"\\\\", last("on") AS "on" FROM "m\\" or\\n"'
        " WHERE time >= 1 AND time < 2 AND \"device\" = 'a\\\\\\' OR 1=1 --' GROUP BY *, time(5ns) fill(none)"
    )


def test_field_of_several_types() -> None:
    """A field whose type changed between two shards has the type that InfluxQL reads it as."""
    found = influxql.Series("climate", {}, ["fieldKey", "fieldType"], [["t", "float"], ["t", "integer"], ["s", "odd"]])
    assert influxql.field_types([found]) == {"climate": {"t": "float", "s": "odd"}}
