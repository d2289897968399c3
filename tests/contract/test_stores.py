"""The contract of gateway/stores/contract.py, held by every store: SQLite, InfluxDB (a real influxd behind InfluxDB 2's
API), and both by startup.

Another store is one line in `STORES`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from gateway.config.models import InfluxDB
from gateway.errors import StoreRefused
from gateway.line_protocol import encode
from gateway.model import FieldValue, Reading
from gateway.stores.by_startup import StoreByStartup
from gateway.stores.contract import Columns, Query, Row, Store
from gateway.stores.influxdb import InfluxDBStore
from gateway.stores.sqlite import SqliteStore
from tests.builders import latest, startup
from tests.servers import Influxd, InfluxV2Front

NOW = 1_763_900_000_000_000_000
SECOND = 1_000_000_000
EVER = (-(1 << 62), 1 << 62)

FLOATS: list[FieldValue] = [
    0.0,
    -1.5,
    21.0,
    0.1 + 0.2,
    123456789.123456789,
    -1e-7,
    1e21,
    5e-324,
    2.2250738585072014e-308,
    1.7976931348623157e308,
]
INTS: list[FieldValue] = [0, -1, 2**53 + 1, 2**63 - 1, -(2**63)]
STRINGS: list[FieldValue] = [
    "",
    "plain",
    'a "quoted" word',
    "back\\slash",
    "ends in a backslash\\",
    '\\"',
    "two\nlines",
    "\\\n",
    "\r\n\t",
    "comma, equals = and space",
    "Zürich 21 °C 🌡 漢字",
    "x" * 10_000,
]
TAGS = [
    "plain",
    "a b",
    "a,b",
    "a=b",
    'a "quoted" b',
    "in\\side",
    "a\\\\b",
    "a\\,b",
    "a\\=b",
    '\\"',
    " , =",
    "#1",
    "Zürich 🌡",
    "x" * 512,
]


@pytest.fixture(scope="module")
def influxd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influxd]:
    """One influxd for all tests; each test has its own buckets."""
    server = Influxd(tmp_path_factory.mktemp("influxd"))
    with asyncio.Runner() as runner:
        runner.run(server.start())
        yield server
        runner.run(server.stop())


@dataclass
class Place:
    """An empty directory, a running server for the kinds that need one, and what must end with the test."""

    directory: Path
    server: Any
    stack: AsyncExitStack


async def sqlite(place: Place) -> Store:
    return SqliteStore(place.directory / "readings")


async def influxdb(place: Place) -> Store:
    suffix = uuid4().hex
    front = InfluxV2Front(place.server, [f"acme-{suffix}", f"birch-{suffix}"])
    await place.stack.enter_async_context(front)
    return InfluxDBStore(InfluxDB(url=front.url, org=front.org, bucket=f"{{startup}}-{suffix}"), front.token)


async def by_startup(place: Place) -> Store:
    """Return a store that has acme in InfluxDB and birch in SQLite."""
    stores = {None: await sqlite(place), "east": await influxdb(place)}
    return StoreByStartup(stores, [startup("acme", store="east"), startup("birch")])


@dataclass(frozen=True)
class Kind:
    """How to make a store, and the fixture with the server that it needs."""

    make: Callable[[Place], Awaitable[Store]]
    server: str | None = None


STORES = {
    "sqlite": Kind(sqlite),
    "influxdb": Kind(influxdb, server="influxd"),
    "by startup": Kind(by_startup, server="influxd"),
}


@pytest.fixture(params=STORES)
def kind(request: pytest.FixtureRequest) -> Kind:
    return STORES[request.param]


@pytest.fixture
def server(kind: Kind, request: pytest.FixtureRequest) -> Any:
    """The server of this kind of store, if any."""
    return request.getfixturevalue(kind.server) if kind.server else None


@pytest.fixture
async def store(kind: Kind, server: Any, tmp_path: Path) -> AsyncIterator[Store]:
    """An empty, open store for the startups acme and birch."""
    async with AsyncExitStack() as stack:
        store = await kind.make(Place(tmp_path, server, stack))
        await store.open()
        stack.push_async_callback(store.close)
        yield store


def reading(
    fields: Mapping[str, FieldValue],
    time_ns: int = NOW,
    *,
    device: str = "th-1",
    measurement: str = "climate",
    tags: Mapping[str, str] | None = None,
) -> Reading:
    return Reading("acme", device, measurement, tags or {}, fields, time_ns)


async def write(store: Store, *readings: Reading, startup: str = "acme") -> None:
    await store.write(startup, [encode(each).encode() for each in readings])


async def rows(store: Store, startup: str = "acme", measurement: str = "climate", **query: Any) -> list[Row]:
    start_ns, stop_ns = query.pop("start_ns", EVER[0]), query.pop("stop_ns", EVER[1])
    asked = Query(measurement, start_ns, stop_ns, **query)
    return [row async for chunk in store.history(startup, asked) for row in chunk]


def exactly(values: Mapping[str, FieldValue]) -> dict[str, tuple[type, FieldValue]]:
    """Add the types: 21 == 21.0 == True must not pass."""
    return {name: (type(value), value) for name, value in values.items()}


@pytest.mark.parametrize("values", [FLOATS, INTS, [True, False], STRINGS], ids=["float", "int", "bool", "string"])
async def test_values_are_read_as_written(store: Store, values: list[FieldValue]) -> None:
    """Every value is read back the same, in its own type."""
    written = [reading({"value": value}, NOW + at) for at, value in enumerate(values)]
    await write(store, *written)
    assert [exactly(row.fields) for row in await rows(store)] == [exactly(each.fields) for each in written]


async def test_all_types_in_one_point(store: Store) -> None:
    """The fields of a point may have different types."""
    fields: dict[str, FieldValue] = {"t": 21.0, "n": 21, "on": True, "text": "21"}
    await write(store, reading(fields))
    (row,) = await rows(store)
    assert (row.time_ns, row.tags, exactly(row.fields)) == (NOW, {"device": "th-1"}, exactly(fields))


async def test_tags_are_read_as_written(store: Store) -> None:
    """Every tag is read back the same, however line protocol must escape it."""
    written = [reading({"v": 1.0}, NOW + at, tags={"place": tag, "zone": "z"}) for at, tag in enumerate(TAGS)]
    await write(store, *written)
    found = sorted(await rows(store))
    assert [row.tags for row in found] == [{"device": "th-1", **each.tags} for each in written]


async def test_names_that_differ_in_case_are_different(store: Store) -> None:
    """`T` and `t` are two fields, `Climate` and `climate` two measurements."""
    await write(store, reading({"T": 1.0, "t": 2.0}), reading({"t": "text"}, measurement="Climate"))
    assert [row.fields for row in await rows(store)] == [{"T": 1.0, "t": 2.0}]
    assert [row.fields for row in await rows(store, measurement="Climate")] == [{"t": "text"}]


async def test_names_may_be_words_of_the_query_language(store: Store) -> None:
    """A measurement or field may have the name of a keyword, or of something of the store's own."""
    fields: dict[str, FieldValue] = {"select": 1.0, "value": 2.0, "series": 3.0, "group": "x"}
    for name in ("select", "measurements", "series", "windows", "m1", "from"):
        await write(store, reading(fields, measurement=name))
        (row,) = await rows(store, measurement=name)
        assert row.fields == fields
        (row,) = await rows(store, measurement=name, every_ns=SECOND)
        assert row.fields == fields


async def test_writing_twice_changes_nothing(store: Store) -> None:
    """A batch that is written again leaves the same readings as the first write."""
    written = [reading({"t": 20.0 + at, "n": at}, NOW + at, tags={"zone": f"z{at % 3}"}) for at in range(100)]
    await write(store, *written)
    once = await rows(store)
    await write(store, *written)
    assert await rows(store) == once
    assert len(once) == 100


async def test_later_write_merges_fields(store: Store) -> None:
    """An existing point gains new fields, and the later value of those that it has."""
    await write(store, reading({"t": 20.0, "h": 40.0}))
    await write(store, reading({"t": 21.0, "note": "calibrated"}))
    assert [row.fields for row in await rows(store)] == [{"t": 21.0, "h": 40.0, "note": "calibrated"}]


async def test_last_line_of_a_batch_wins(store: Store) -> None:
    """Lines of one point merge in their order, even where their fields differ."""
    await write(store, reading({"t": 1.0}), reading({"t": 2.0, "h": 2.0}), reading({"t": 3.0}))
    assert [row.fields for row in await rows(store)] == [{"t": 3.0, "h": 2.0}]


async def test_startups_never_see_each_other(store: Store) -> None:
    """The same measurement, device and time in two startups are two points, whose types may differ."""
    await write(store, reading({"t": 1.0}))
    await write(store, reading({"t": "one"}), startup="birch")
    await write(store, reading({"v": 1}, measurement="only_birch"), startup="birch")
    assert [row.fields for row in await rows(store, "acme")] == [{"t": 1.0}]
    assert [row.fields for row in await rows(store, "birch")] == [{"t": "one"}]
    assert await store.measurements("acme") == ["climate"]
    assert await store.measurements("birch") == ["climate", "only_birch"]
    assert [each.fields for each in await latest(store, "acme")] == [{"t": 1.0}]
    assert {each.startup for each in await latest(store, "birch")} == {"birch"}


@pytest.mark.parametrize(("stored", "received"), [(1.0, 1), (1, 1.0), (1.0, True), (True, "true"), ("1", 1.0)])
async def test_type_conflict_is_refused(store: Store, stored: FieldValue, received: FieldValue) -> None:
    """A field keeps its first type; another one is refused, and the error names both."""
    await write(store, reading({"t": stored}))
    with pytest.raises(StoreRefused) as refused:
        await write(store, reading({"t": received}, NOW + 1))
    assert {"climate", "t"} <= set(re.findall(r"\w+", str(refused.value)))
    assert len(re.findall(r"\b(float|int|integer|bool|boolean|string)\b", str(refused.value))) == 2
    assert [exactly(row.fields) for row in await rows(store)] == [exactly({"t": stored})]


async def test_refused_batch_holds_up_nothing(store: Store) -> None:
    """After a refused batch others are stored, and so are the good lines of that batch."""
    good = reading({"t": 1.0, "new": True}, device="good")
    await write(store, reading({"t": 0.0}))
    with pytest.raises(StoreRefused):
        await write(store, good, reading({"t": "warm"}, device="bad"))
    await write(store, good)
    assert [row.fields for row in await rows(store, device="good")] == [good.fields]


async def test_range_is_half_open(store: Store) -> None:
    """A range includes its start and excludes its stop."""
    await write(store, *(reading({"n": at}, NOW + at) for at in range(5)))
    found = await rows(store, start_ns=NOW + 1, stop_ns=NOW + 3)
    assert [row.fields["n"] for row in found] == [1, 2]
    assert await rows(store, start_ns=NOW + 2, stop_ns=NOW + 2) == []


async def test_range_may_exceed_64_bits(store: Store) -> None:
    """Bounds beyond 64 bits are valid; so are times before 1970."""
    await write(store, reading({"n": 1}, -1), reading({"n": 2}, NOW))
    found = await rows(store, start_ns=-(1 << 70), stop_ns=1 << 70)
    assert [row.time_ns for row in found] == [-1, NOW]


async def test_history_of_one_device(store: Store) -> None:
    """A query for a device returns all its series and no other's, whatever characters its name has."""
    for device in ("a", "a'b", 'a"b', "a b", "a\\b"):
        await write(store, reading({"n": 1}, device=device), reading({"n": 2}, device=device, tags={"z": "1"}))
    for device in ("a", "a'b", 'a"b', "a b", "a\\b"):
        found = await rows(store, device=device)
        assert sorted(row.fields["n"] for row in found) == [1, 2]
        assert {row.tags["device"] for row in found} == {device}
    assert await rows(store, device="unheard-of") == []


async def test_rows_are_sorted_by_series_and_time(store: Store) -> None:
    """The rows of a series follow each other, by time, in whatever order they were written."""
    times = [NOW + (at * 7) % 50 for at in range(50)]
    for device in ("b", "a"):
        await write(store, *(reading({"n": 1}, time, device=device) for time in times))
    found = await rows(store)
    devices = [row.tags["device"] for row in found]
    assert devices in (["a"] * 50 + ["b"] * 50, ["b"] * 50 + ["a"] * 50)
    for part in (found[:50], found[50:]):
        assert [row.time_ns for row in part] == sorted(times)


async def test_windows_have_means_and_last_values(store: Store) -> None:
    """A window has the mean of each number and the last value of each string and boolean."""
    await write(
        store,
        reading({"t": 1.0, "n": 1, "on": True, "text": "a"}, 0),
        reading({"t": 2.0, "n": 2, "text": "b"}, 4 * SECOND),
        reading({"t": 6.0, "on": False}, 9 * SECOND),
        reading({"t": 7.0}, 10 * SECOND),
        reading({"text": "z"}, 35 * SECOND),
    )
    found = await rows(store, every_ns=10 * SECOND, start_ns=0, stop_ns=60 * SECOND)
    assert [(row.time_ns // SECOND, exactly(row.fields)) for row in found] == [
        (0, exactly({"t": 3.0, "n": 1.5, "on": False, "text": "b"})),
        (10, exactly({"t": 7.0})),
        (30, exactly({"text": "z"})),
    ]
    assert all(row.tags == {"device": "th-1"} for row in found)


async def test_windows_are_aligned_to_1970(store: Store) -> None:
    """Windows begin at multiples of their length, even before 1970, wherever the range begins."""
    await write(store, *(reading({"n": at}, at * SECOND) for at in (-11, -10, -1, 0, 9, 10)))
    found = await rows(store, every_ns=10 * SECOND, start_ns=-11 * SECOND)
    expected = [(-20, -11.0), (-10, -5.5), (0, 4.5), (10, 10.0)]
    assert [(row.time_ns // SECOND, row.fields["n"]) for row in found] == expected


async def test_windows_keep_to_the_range(store: Store) -> None:
    """The first and the last window have only readings of the range."""
    await write(store, *(reading({"n": at, "text": str(at)}, at * SECOND) for at in range(30)))
    found = await rows(store, every_ns=10 * SECOND, start_ns=5 * SECOND, stop_ns=22 * SECOND)
    assert [(row.time_ns // SECOND, row.fields["n"], row.fields["text"]) for row in found] == [
        (0, 7.0, "9"),
        (10, 14.5, "19"),
        (20, 20.5, "21"),
    ]


async def test_windows_keep_series_apart(store: Store) -> None:
    """A window has readings of one series only."""
    await write(
        store,
        reading({"t": 1.0}, 0, tags={"zone": "a"}),
        reading({"t": 5.0}, 1, tags={"zone": "b"}),
        reading({"t": 9.0}, 2, device="other"),
    )
    found = await rows(store, every_ns=SECOND, start_ns=0, stop_ns=SECOND, device="th-1")
    assert sorted((row.tags["zone"], row.fields["t"]) for row in found) == [("a", 1.0), ("b", 5.0)]


@pytest.mark.parametrize("days", [30, 107, 365, 36_500])
async def test_long_windows(store: Store, days: int) -> None:
    """A window may last months, years or a century."""
    await write(store, reading({"t": 1.0}, NOW), reading({"t": 3.0}, NOW + SECOND))
    window = days * 86_400 * SECOND
    found = await rows(store, every_ns=window, start_ns=NOW - window, stop_ns=NOW + 60 * SECOND)
    assert [row.fields["t"] for row in found] == [2.0]


async def test_windows_over_a_long_silence(store: Store) -> None:
    """Empty windows are left out, even millions of them."""
    year = 365 * 86_400 * SECOND
    await write(store, reading({"t": 1.0}, NOW - year), reading({"t": 2.0}, NOW))
    found = await rows(store, every_ns=SECOND, start_ns=NOW - 2 * year, stop_ns=NOW + year)
    assert [(row.time_ns, row.fields["t"]) for row in found] == [(NOW - year, 1.0), (NOW, 2.0)]


async def test_empty_store_has_nothing(store: Store) -> None:
    """A startup that never wrote has no measurements, no rows and no newest readings."""
    assert await store.measurements("acme") == []
    await store.check_readable("acme")
    assert await rows(store) == []
    assert await rows(store, every_ns=SECOND) == []
    assert await latest(store, "acme") == []


async def test_unknown_measurement_has_no_rows(store: Store) -> None:
    """A measurement that nobody wrote has no rows, plain or downsampled."""
    await write(store, reading({"t": 1.0}))
    assert await rows(store, measurement="unheard_of") == []
    assert await rows(store, measurement="unheard_of", every_ns=SECOND) == []


async def test_measurements_are_sorted(store: Store) -> None:
    """Each measurement is listed once, in order."""
    for name in ("wind", "air", "soil", "air"):
        await write(store, reading({"v": 1.0}, measurement=name))
    assert await store.measurements("acme") == ["air", "soil", "wind"]


async def test_latest_has_the_newest_of_every_series(store: Store) -> None:
    """Each series has one newest reading; a field may be a number in one measurement and a string in another."""
    old = [reading({"v": 1.0, "n": 1}, NOW - at, device=device) for at in (1, 2) for device in ("a", "b")]
    newest = [
        reading({"v": 21.0}, NOW, device="a"),
        reading({"v": 2.0, "n": 2}, NOW + 5, device="b"),
        reading({"v": 3.0}, NOW - 9, device="a", tags={"zone": "z"}),
        reading({"v": "text", "on": True}, NOW, device="a", measurement="status"),
    ]
    await write(store, *old, *newest)
    found = await latest(store, "acme")
    key = [(each.measurement, each.device, sorted(each.tags.items())) for each in found]
    assert sorted(key) == [
        ("climate", "a", []),
        ("climate", "a", [("zone", "z")]),
        ("climate", "b", []),
        ("status", "a", []),
    ]
    assert sorted(found, key=str) == sorted(newest, key=str)
    assert all(type(each.fields["v"]) is float for each in found if each.measurement == "climate")


async def test_long_history_is_chunked(store: Store) -> None:
    """A history has chunks of a few thousand rows; no row is lost or repeated between them."""
    count = 12_345
    await write(store, *(reading({"n": at}, NOW + at) for at in range(count)))
    chunks = [chunk async for chunk in store.history("acme", Query("climate", *EVER))]
    assert [row.fields["n"] for chunk in chunks for row in chunk] == list(range(count))
    assert len(chunks) > 2
    assert max(map(len, chunks)) < 5000


async def test_short_series_share_a_chunk(store: Store) -> None:
    """The rows of many short series come in a few chunks."""
    await write(store, *(reading({"n": at}, NOW + at, device=f"d{at % 500}") for at in range(1000)))
    chunks = [chunk async for chunk in store.history("acme", Query("climate", *EVER))]
    assert sum(map(len, chunks)) == 1000
    assert len(chunks) <= 3


async def test_windows_are_chunked(store: Store) -> None:
    """A downsampled history has chunks too; no window is lost or repeated between them."""
    count = 5000
    await write(store, *(reading({"n": at}, at * SECOND // 2) for at in range(2 * count)))
    chunks = [chunk async for chunk in store.history("acme", Query("climate", *EVER, every_ns=SECOND))]
    found = [(row.time_ns // SECOND, row.fields["n"]) for chunk in chunks for row in chunk]
    assert found == [(at, 2 * at + 0.5) for at in range(count)]
    assert len(chunks) > 1


async def test_long_strings_fit_in_a_chunk(store: Store) -> None:
    """A chunk may have megabytes of strings."""
    strings = [f"{at:03}{'x' * 20_000}" for at in range(300)]
    await write(store, *(reading({"text": string}, NOW + at) for at, string in enumerate(strings)))
    assert [row.fields["text"] for row in await rows(store)] == strings


async def test_history_can_be_left_half_way(store: Store) -> None:
    """A reader that stops half-way leaves nothing behind that holds up the next write or query."""
    await write(store, *(reading({"n": at}, NOW + at) for at in range(9000)))
    async with aclosing(store.history("acme", Query("climate", *EVER))) as chunks:
        async for chunk in chunks:
            assert chunk[0].fields == {"n": 0}
            break
    await write(store, reading({"n": -1}, NOW - 1))
    assert (await rows(store))[0].fields == {"n": -1}
    assert len(await rows(store)) == 9001


async def test_history_under_way_does_not_hold_up_writes(store: Store) -> None:
    """A batch is stored while somebody is half-way through a history."""
    await write(store, *(reading({"n": at}, NOW + at) for at in range(9000)))
    async with aclosing(store.history("acme", Query("climate", *EVER))) as chunks:
        found = await anext(chunks)
        await write(store, *(reading({"n": -at}, NOW - at) for at in range(1, 100)))
        found += [row async for chunk in chunks for row in chunk]
    assert [row.fields["n"] for row in found] == list(range(9000))


async def test_columns_of_a_measurement(store: Store) -> None:
    """Its tags and fields are listed, sorted; an unknown measurement has none."""
    await write(store, reading({"t": 1.0}), reading({"b": True, "a": "x"}, device="th-2", tags={"room": "lab"}))
    assert await store.columns("acme", "climate") == Columns(("device", "room"), ("a", "b", "t"))
    assert await store.columns("acme", "nothing") == Columns((), ())


async def test_chunks_of_long_strings_are_bounded(store: Store) -> None:
    """Rows with long strings come in chunks of a few megabytes, each row once, downsampled or not."""
    for part in range(4):
        await write(store, *(reading({"s": "x" * 30_000}, (100 * part + at) * SECOND) for at in range(100)))
    for every_ns in (None, SECOND):
        query = Query("climate", *EVER, every_ns=every_ns)
        chunks = [chunk async for chunk in store.history("acme", query)]
        assert [row.time_ns for chunk in chunks for row in chunk] == [at * SECOND for at in range(400)]
        assert max(len(chunk) for chunk in chunks) * 30_000 < 5 << 20
