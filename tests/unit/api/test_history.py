"""History over HTTP: ranges as people write them, and bodies that never stand whole in memory."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import UTC, datetime

import pytest

from gateway.api.history import Format, HistoryParameters, stream
from gateway.computing import Computing
from gateway.config import Startup
from gateway.errors import RequestRejected, StoreUnavailable
from gateway.stores.contract import Columns, Query, Row, Store

NOON = int(datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp()) * 10**9
QUERY = Query("climate", 0, 1)
STARTUP = Startup.model_validate(
    {
        "name": "Acme", "slug": "acme",
        "topics": {"climate": {
            "topic": "testbed/acme/{device}/climate",
            "fields": {"t": {"type": "float", "unit": "celsius"}, "note": {"type": "string", "required": False}},
        }},
    }
)  # fmt: skip


class ManyRows:
    """A store with any number of rows; `given` counts the chunks that were asked for."""

    def __init__(self, *chunks: list[Row]) -> None:
        self._chunks = chunks
        self.given = 0

    async def columns(self, _startup: str, _measurement: str) -> Columns:
        return Columns(("device",), ("later", "t"))

    async def history(self, _startup: str, _query: Query) -> AsyncGenerator[list[Row]]:
        for chunk in self._chunks:
            self.given += 1
            yield chunk


def row(number: int, **fields: object) -> Row:
    return Row(NOON + number, {"device": "d"}, {"t": float(number), **fields})  # type: ignore[dict-item]


def encode(work: Callable[[], bytes]) -> Awaitable[bytes]:
    return Computing().run("acme", work)


async def body(store: ManyRows, format_: Format, limit: int | None = None) -> str:
    parameters = HistoryParameters(measurement="climate", format=format_, limit=limit)
    as_store: Store = store  # type: ignore[assignment]  # it is read only
    return b"".join([piece async for piece in await stream(STARTUP, as_store, parameters, QUERY, encode)]).decode()


@pytest.mark.parametrize(
    ("start", "stop", "seconds"),
    [
        ("2026-01-01T12:00:00Z", "2026-01-01T13:00:00Z", 3600),
        ("2026-01-01T13:00:00+01:00", "2026-01-01T12:00:01Z", 1),
        ("2026-01-01T13:00:00 01:00", "2026-01-01T12:00:01Z", 1),
        ("-2h", "-1h", 3600),
        ("-90s", "-0s", 90),
    ],
)
def test_ranges(start: str, stop: str, seconds: int) -> None:
    """Times are RFC 3339, also with a + that a query string has turned into a space, or durations before now."""
    query = HistoryParameters(measurement="climate", start=start, stop=stop).query()
    assert query.stop_ns - query.start_ns == seconds * 10**9


@pytest.mark.parametrize("text", ["", "now", "-", "-5", "-5 parsecs", "2026-01-01", "9999-99-99T00:00:00Z"])
def test_invalid_time_is_reported(text: str) -> None:
    """The error names the parameter, what is expected and what was found."""
    with pytest.raises(RequestRejected, match="start: expected RFC 3339") as raised:
        HistoryParameters(measurement="climate", start=text).query()
    assert repr(text) in raised.value.detail


@pytest.mark.parametrize("text", ["0s", "5", "-5m", "often", "999999999999y"])
def test_invalid_window_is_reported(text: str) -> None:
    """`every` must be a duration above 0."""
    with pytest.raises(RequestRejected, match="every: expected a duration above 0"):
        HistoryParameters(measurement="climate", every=text).query()


async def test_an_empty_history_is_well_formed() -> None:
    """No rows: an empty list in JSON, the head alone in CSV, nothing in NDJSON."""
    assert json.loads(await body(ManyRows(), "json"))["readings"] == []
    assert await body(ManyRows(), "csv") == "time,device,t,note,later\r\n"
    assert await body(ManyRows(), "ndjson") == ""


async def test_a_limit_stops_the_store() -> None:
    """With a limit, no more chunks are read than are needed, and the answer says that it is cut off."""
    store = ManyRows(*[[row(10 * i + j) for j in range(10)] for i in range(100)])
    answer = json.loads(await body(store, "json", limit=15))
    assert (answer["count"], answer["truncated"]) == (15, True)
    assert store.given == 2


class NoRows(ManyRows):
    """A store that cannot be read."""

    async def history(self, _startup: str, _query: Query) -> AsyncGenerator[list[Row]]:
        raise StoreUnavailable("the disk is gone")
        yield []


@pytest.mark.parametrize("format_", ["json", "csv", "ndjson"])
async def test_unreadable_store_is_reported_before_the_answer_begins(format_: Format) -> None:
    """The error comes while it still can be a status: an answer that broke off would look like a short one."""
    parameters = HistoryParameters(measurement="climate", format=format_)
    as_store: Store = NoRows()  # type: ignore[assignment]  # it is read only
    with pytest.raises(StoreUnavailable):
        await stream(STARTUP, as_store, parameters, QUERY, encode)


async def test_csv_is_safe_in_a_spreadsheet() -> None:
    """Commas, quotes and line breaks survive; a string that a spreadsheet would run as a formula is defused."""
    notes = ['a,"b"\nc', "=1+1", "@x", "plain"]
    text = await body(ManyRows([row(i, note=note) for i, note in enumerate(notes)]), "csv")
    cells = [line[3] for line in list(csv.reader(io.StringIO(text)))[1:]]
    assert cells == ['a,"b"\nc', "'=1+1", "'@x", "plain"]


class OneAtATime(ManyRows):
    """A store that answers one question at a time, as one does whose last connection a history holds."""

    is_reading = False

    async def columns(self, startup: str, measurement: str) -> Columns:
        assert not self.is_reading
        return await super().columns(startup, measurement)

    async def history(self, startup: str, query: Query) -> AsyncGenerator[list[Row]]:
        self.is_reading = True
        async for chunk in super().history(startup, query):
            yield chunk
        self.is_reading = False


async def test_a_history_asks_for_nothing_else_while_it_is_read() -> None:
    """Else many downloads of CSV at once would hold all connections, and wait for one more each, without end."""
    text = await body(OneAtATime([row(1)]), "csv")
    assert text.splitlines() == ["time,device,t,note,later", "2026-01-01T12:00:00.000000001Z,d,1.0,,"]


async def at_once(work: Callable[[], bytes]) -> bytes:
    return work()


async def test_a_history_lets_others_run_between_its_chunks() -> None:
    """Also one that is there already: else nobody would notice that its client has left, and others would wait."""
    parameters = HistoryParameters(measurement="climate", format="ndjson")
    as_store: Store = ManyRows([row(1)], [row(2)], [row(3)])  # type: ignore[assignment]  # it is read only
    pieces = await stream(STARTUP, as_store, parameters, QUERY, at_once)
    turns: list[str] = []

    async def reader() -> None:
        while await anext(pieces, None) is not None:
            turns.append("piece")

    async def other() -> None:
        for _ in range(2):
            turns.append("other")
            await asyncio.sleep(0)

    await asyncio.gather(reader(), other())
    assert turns == ["piece", "other", "piece", "other", "piece"]


async def test_json_ends_where_it_becomes_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer in JSON is bounded in bytes as well as in rows, and says that it is cut off."""
    monkeypatch.setattr("gateway.api.history.MAX_BYTES", 10_000)
    store = ManyRows(*[[row(number, note="x" * 1000)] for number in range(100)])
    answer = json.loads(await body(store, "json"))
    assert answer["truncated"]
    assert 5 < answer["count"] == len(answer["readings"]) < 15
    assert store.given < 20
