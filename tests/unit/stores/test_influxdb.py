"""What `InfluxDBStore` sends, and what it makes of every kind of answer; tests/contract has the rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from aiohttp import web

from gateway.config.models import InfluxDB
from gateway.errors import StoreRefused, StoreThrottled, StoreUnavailable
from gateway.stores import influxql
from gateway.stores.contract import Query, Row
from gateway.stores.influxdb import BODY, InfluxDBStore
from tests.servers import FlakyProxy, free_port

LINE = b"climate,device=th-1 temperature=21.5 1763900000000000000"
EVERYTHING = Query("climate", 0, 1 << 62)
FIELD_KEYS = {"name": "climate", "columns": ["fieldKey", "fieldType"], "values": [["t", "float"], ["n", "integer"]]}


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
    """Answers what a test tells it to, and remembers what it was asked. `pages` are the answers to queries."""

    port: int = field(default_factory=free_port)
    status: int = 204
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    pages: list[list[str]] = field(default_factory=list)
    asked: list[Request] = field(default_factory=list)
    token: str = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(Request(request.path, dict(request.query), request.headers, await request.read()))
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


async def test_what_a_write_sends(store: InfluxDBStore, stub: Stub) -> None:
    """Lines go as they are to the startup's bucket, with their precision and the token."""
    await store.write("acme", [LINE, LINE])
    (request,) = stub.asked
    assert request.path == "/api/v2/write"
    assert request.query == {"org": "lab", "bucket": "bed-acme", "precision": "ns"}
    assert request.headers["Authorization"] == "Token secret"
    assert "Content-Encoding" not in request.headers
    assert request.body == LINE + b"\n" + LINE


async def test_nothing_is_sent_for_no_lines(store: InfluxDBStore, stub: Stub) -> None:
    """An empty batch is stored without asking."""
    await store.write("acme", [])
    assert stub.asked == []


async def test_a_large_batch_goes_in_parts(store: InfluxDBStore, stub: Stub) -> None:
    """No body is longer than what proxies take, and no line is lost between two."""
    lines = [LINE.replace(b"th-1", b"d%06d" % number) for number in range(40_000)]
    await store.write("acme", lines)
    assert len(stub.asked) == 3
    assert all(len(request.body) <= BODY for request in stub.asked)
    assert b"\n".join(request.body for request in stub.asked).split(b"\n") == lines


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_the_data_is_refused(store: InfluxDBStore, stub: Stub, status: int) -> None:
    """What says that the data is at fault is a refusal, in the server's words."""
    stub.status, stub.body = status, '{"code": "invalid", "message": "field type conflict: \\"t\\""}'
    with pytest.raises(StoreRefused, match='field type conflict: "t"'):
        await store.write("acme", [LINE])


@pytest.mark.parametrize("status", [401, 403])
async def test_the_token_is_refused(store: InfluxDBStore, stub: Stub, status: int) -> None:
    """A refused token is not the data's fault; the error says which setting to mend."""
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
async def test_a_store_with_a_name_names_its_own_settings(stub: Stub, status: int, says: str) -> None:
    """What is wrong with a further store is mended in its own settings, and the error says so."""
    stub.status = status
    store = InfluxDBStore(InfluxDB(url=stub.url), "secret", name="hall-2")
    await store.open()
    with pytest.raises(StoreUnavailable, match=says):
        await store.write("acme", [LINE])
    await store.close()


async def test_a_token_that_was_made_anew_is_taken_up(stub: Stub) -> None:
    """When InfluxDB refuses the token, the one that is on disk now is used, at once and by all who write."""
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
    await store.close()


async def test_the_bucket_is_missing(store: InfluxDBStore, stub: Stub) -> None:
    """A missing bucket or organisation is not the data's fault; the error names both."""
    stub.status, stub.body = 404, '{"code": "not found", "message": "bucket \\"bed-acme\\" not found"}'
    with pytest.raises(StoreUnavailable, match=r"bed-acme.*lab.*gateway provision"):
        await store.write("acme", [LINE])


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429])
@pytest.mark.parametrize("body", ["", '{"message": "engine: too busy"}', "<html>Bad gateway</html>"])
async def test_the_server_cannot_do_it_now(store: InfluxDBStore, stub: Stub, status: int, body: str) -> None:
    """Without Retry-After, a server in trouble is unavailable, whatever its answer's body."""
    stub.status, stub.body = status, body
    with pytest.raises(StoreUnavailable, match=str(status)) as raised:
        await store.write("acme", [LINE])
    assert type(raised.value) is StoreUnavailable


@pytest.mark.parametrize("status", [429, 503])
async def test_the_server_asks_for_a_pause(store: InfluxDBStore, stub: Stub, status: int) -> None:
    """Retry-After in seconds is how long to wait."""
    stub.status, stub.headers = status, {"Retry-After": "17"}
    with pytest.raises(StoreThrottled) as raised:
        await store.write("acme", [LINE])
    assert raised.value.retry_after == 17


@pytest.mark.parametrize(("seconds", "expected"), [(100, 100), (-100, 0)])
async def test_the_pause_may_be_a_date(store: InfluxDBStore, stub: Stub, seconds: int, expected: int) -> None:
    """Retry-After as an HTTP date is the time until then, and none when that has gone by."""
    until = datetime.now(UTC) + timedelta(seconds=seconds)
    stub.status, stub.headers = 429, {"Retry-After": format_datetime(until, usegmt=True)}
    with pytest.raises(StoreThrottled) as raised:
        await store.write("acme", [LINE])
    assert raised.value.retry_after == pytest.approx(expected, abs=5)


async def test_a_pause_that_makes_no_sense(store: InfluxDBStore, stub: Stub) -> None:
    """A Retry-After that is neither is as good as none."""
    stub.status, stub.headers = 429, {"Retry-After": "soon"}
    with pytest.raises(StoreUnavailable) as raised:
        await store.write("acme", [LINE])
    assert type(raised.value) is StoreUnavailable


@pytest.mark.parametrize("status", [200, 301, 302, 405])
async def test_another_server_answers(store: InfluxDBStore, stub: Stub, status: int) -> None:
    """An answer that InfluxDB does not give, a success too, does not count as stored, and is not followed."""
    stub.status, stub.headers = status, {"Location": "/elsewhere"}
    with pytest.raises(StoreUnavailable, match=r"store\.influxdb\.url"):
        await store.write("acme", [LINE])
    assert len(stub.asked) == 1


async def test_nobody_answers_and_then_somebody_does(store: InfluxDBStore, stub: Stub, network: FlakyProxy) -> None:
    """While the server is out of reach nothing can be stored or read; when it is back, everything can."""
    network.cut()
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        await store.write("acme", [LINE])
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        await store.measurements("acme")
    network.heal()
    await store.write("acme", [LINE])
    assert stub.asked[-1].body == LINE


async def test_an_answer_that_never_comes(network: FlakyProxy) -> None:
    """A server that takes longer than the timeout is unavailable."""
    store = InfluxDBStore(InfluxDB(url=network.url).model_copy(update={"timeout": 0.2}), "secret")
    await store.open()
    network.stall()
    with pytest.raises(StoreUnavailable):
        await store.write("acme", [LINE])
    with pytest.raises(StoreUnavailable):
        await store.latest("acme")
    await store.close()


async def test_a_store_opens_without_a_server() -> None:
    """Opening needs no server to be there."""
    store = InfluxDBStore(InfluxDB(url=f"http://127.0.0.1:{free_port()}"), "secret")
    await store.open()
    with pytest.raises(StoreUnavailable):
        await store.write("acme", [LINE])
    await store.close()


# ------------------------------------------------------------------ queries


async def test_an_answer_in_pieces(store: InfluxDBStore, stub: Stub) -> None:
    """An answer is read as it comes, wherever it is cut in pieces; 21 of a float field is 21.0."""
    text = "".join(f"{json(page(rows((at, 21.0, at))))}\n" for at in range(3))
    stub.pages = [[json(page(FIELD_KEYS))], [text[:70], text[70:71], text[71:]]]
    found = await read(store)
    assert found == [Row(at, {"device": "a"}, {"t": 21.0, "n": at}) for at in range(3)]
    assert [(type(row.fields["t"]), type(row.fields["n"])) for row in found] == [(float, int)] * 3


async def test_a_missing_database_is_empty(store: InfluxDBStore, stub: Stub) -> None:
    """A bucket that is not there yet has no rows."""
    missing = json(page(error="database not found: bed-acme"))
    stub.pages = [[missing], [missing], [missing]]
    assert await store.measurements("acme") == []
    assert await read(store) == []
    assert await store.latest("acme") == []


@pytest.mark.parametrize("text", ['{"error": "engine gave up"}', '{"results": [{"error": "engine gave up"}]}'])
async def test_an_error_in_an_answer(store: InfluxDBStore, stub: Stub, text: str) -> None:
    """An error inside a 200 answer is an error, also after rows."""
    stub.pages = [[json(page(FIELD_KEYS))], [json(page(rows((1, 1.0, 1)))) + "\n", text]]
    with pytest.raises(StoreUnavailable, match="engine gave up"):
        await read(store)


@pytest.mark.parametrize("text", ["<html>Welcome</html>", "[]", '{"results": [{"series": [{}]}]}', '{"results": [1]}'])
async def test_a_page_that_is_no_answer(store: InfluxDBStore, stub: Stub, text: str) -> None:
    """Whatever else answers 200 is no answer."""
    stub.pages = [[text]]
    with pytest.raises(StoreUnavailable, match="no answer"):
        await store.measurements("acme")


async def test_an_answer_that_breaks_off(store: InfluxDBStore, stub: Stub) -> None:
    """A connection that is lost half-way is an error, not the end of the rows."""
    stub.pages = [[json(page(FIELD_KEYS))], [json(page(rows((1, 1.0, 1)))) + "\n", "CUT"]]
    with pytest.raises(StoreUnavailable):
        await read(store)


@pytest.mark.parametrize(
    ("status", "says"), [(400, "query"), (401, "token_file"), (404, "bed-acme"), (500, "now"), (502, "now")]
)
async def test_a_query_is_refused(store: InfluxDBStore, stub: Stub, status: int, says: str) -> None:
    """Every failure of a query is for the operator: there is no data to be refused."""
    stub.status, stub.body = status, '{"error": "as it was said"}'
    with pytest.raises(StoreUnavailable, match=f"(?s)(?=.*{says})(?=.*as it was said)"):
        await store.measurements("acme")


async def test_a_query_is_throttled(store: InfluxDBStore, stub: Stub) -> None:
    """Queries are told to pause like writes."""
    stub.status, stub.headers = 503, {"Retry-After": "3"}
    with pytest.raises(StoreThrottled):
        await store.measurements("acme")


def test_names_and_texts_are_quoted() -> None:
    """No name or device can end its quotes."""
    asked = Query('m" or\n', 1, 2, device="a\\' OR 1=1 --", every_ns=5)
    assert influxql.history(asked, {'f"\\': "float", "on": "boolean"}) == (
        'SELECT mean("f\\"\\\\") AS "f\\"\\\\", last("on") AS "on" FROM "m\\" or\\n"'
        " WHERE time >= 1 AND time < 2 AND \"device\" = 'a\\\\\\' OR 1=1 --' GROUP BY *, time(5ns) fill(none)"
    )


def test_a_field_of_several_types() -> None:
    """A field that changed its type between two shards is read as the type that InfluxQL reads it as."""
    found = influxql.Series("climate", {}, ["fieldKey", "fieldType"], [["t", "float"], ["t", "integer"], ["s", "odd"]])
    assert influxql.field_types([found]) == {"climate": {"t": "float", "s": "odd"}}


def json(document: object) -> str:
    return web.json_response(document).text or ""
