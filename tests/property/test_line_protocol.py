"""Lines of `gateway.line_protocol` mean what the reading said: to a parser written only from InfluxDB's reference, to
the parser of the embedded store, and to InfluxDB's own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, cycle, product

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway.config.models import InfluxDB
from gateway.line_protocol import encode, tag_is_writable
from gateway.model import FieldValue, Reading
from gateway.stores import line_parser
from gateway.stores.contract import Query, Row
from gateway.stores.influxdb import InfluxDBStore
from tests import line_protocol_parser
from tests.servers import Influxd, InfluxV2Front

NOW, DAY = 1_763_900_000_000_000_000, 86_400_000_000_000
numbers = count()

INT64 = st.integers(-(2**63), 2**63 - 1)
NASTY = st.sampled_from(list(" ,=\"'\\\\\\#ntx0é漢🌡\u00a0"))
CHARACTERS = st.one_of(NASTY, st.characters(codec="utf-8"))


def is_name(text: str) -> bool:
    """Whether line protocol can carry it as a measurement or key: like a tag, and no backslash before an escape."""
    return tag_is_writable(text) and not any(rf"\{char}" in text for char in ",= ")


tag_values = st.text(CHARACTERS, max_size=20).filter(tag_is_writable)
names = st.text(CHARACTERS, min_size=1, max_size=12).filter(is_name)
measurements = names.filter(lambda name: not name.startswith("#"))
texts = st.text(CHARACTERS | st.sampled_from("\n\r\t\x01"), max_size=40).filter(lambda text: "\0" not in text)
floats = st.floats(allow_nan=False, allow_infinity=False)
values: st.SearchStrategy[FieldValue] = st.one_of(floats, INT64, st.booleans(), texts)


@st.composite
def readings(
    draw: st.DrawFn, measurement: st.SearchStrategy[str] = measurements, key: st.SearchStrategy[str] = names
) -> Reading:
    """Any reading that validation may let through, and many more."""
    device = draw(tag_values.filter(bool))
    free = key.filter(lambda name: name not in ("time", "device"))
    tags = draw(st.dictionaries(free, tag_values, max_size=4))
    fields = draw(st.dictionaries(free.filter(lambda name: name not in tags), values, min_size=1, max_size=6))
    return Reading("acme", device, draw(measurement), tags, fields, draw(INT64))


def said(reading: Reading) -> tuple[str, dict[str, str], dict[str, object], int]:
    """Return what a parser must find. Empty tags are left out; floats differ from ints."""
    tags = {"device": reading.device, **{key: value for key, value in reading.tags.items() if value}}
    return reading.measurement, tags, typed(reading.fields), reading.time_ns


def typed(fields: object) -> dict[str, object]:
    assert isinstance(fields, dict)
    return {name: (type(value), value) for name, value in fields.items()}


@given(readings())
def test_the_reference_parser_parses_the_same_reading(reading: Reading) -> None:
    """A parser that only knows the grammar finds measurement, tags, fields with their types, and time."""
    (point,) = line_protocol_parser.parse(encode(reading))
    assert (point.measurement, point.tags, typed(point.fields), point.time) == said(reading)


@given(st.lists(readings(), min_size=2, max_size=5))
def test_lines_stay_apart(several: list[Reading]) -> None:
    """In a body of lines each is found again, with or without line breaks in strings."""
    points = line_protocol_parser.parse("\n".join(map(encode, several)))
    assert [point.fields for point in points] == [reading.fields for reading in several]


@given(readings())
@example(Reading("acme", "a", "m", {}, {"x": 'a" 1=2,b="'}, 0))
@example(Reading("acme", "a", "m", {"k": "a\\,b"}, {"x": -0.0}, -1))
def test_the_embedded_store_parses_the_same_reading(reading: Reading) -> None:
    """The parser of the embedded store finds the same."""
    line = line_parser.parse(encode(reading).encode())
    fields = dict(zip(map(line_parser.parse_name, line.names), line.values, strict=True))
    assert (*line_parser.parse_series(line.series), typed(fields), line.time_ns) == said(reading)


@given(readings(), st.data())
def test_a_cut_line_is_rejected_or_another(reading: Reading, data: st.DataObject) -> None:
    """A line that was cut short raises ValueError and nothing else, or is a line with another time."""
    whole = encode(reading).encode()
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    try:
        line = line_parser.parse(cut)
    except ValueError:
        return
    assert line.time_ns != reading.time_ns or cut[-1:] == b" "


@pytest.mark.parametrize(
    "line",
    [b"", b"m", b"m,device=a", b"m,device=a 1", b"m,device=a v 1", b"m,device=a v= 1", b"m,device=a v=1.0 x",
     b"m,device=a v=1.0", b'm,device=a v="x 1', b'm,device=a v="x"y 1', b'm,device=a ="x" 1', b"\xff v=1x 1"],
)  # fmt: skip
def test_bytes_that_are_not_lines_are_rejected(line: bytes) -> None:
    """Bytes that no gateway wrote raise ValueError that shows them."""
    with pytest.raises(ValueError, match="not line protocol"):
        line_parser.parse(line)


@pytest.mark.parametrize("tag", ["a\\ b", "\\ ", "x\\\\\\ y", 'a\\ b\\=c"d', "a\\ b\\,c"])
def test_a_backslash_before_a_space_is_not_a_tag(tag: str) -> None:
    """InfluxDB ends a tag there when it looks for the line's end, and may then split a string into lines."""
    assert not tag_is_writable(tag)


# ------------------------------------------------------------------ InfluxDB's own parser


@dataclass(frozen=True)
class Server:
    """A store on a real influxd, and the loop that it lives in."""

    runner: asyncio.Runner
    store: InfluxDBStore

    def write_and_read_all(self, measurement: str, written: list[Reading]) -> list[Row]:
        """Write all, of one measurement, in one batch; all that is then in the measurement."""
        return self.runner.run(self._write_and_read(written, Query(measurement, 0, 2 * NOW)))

    def write_and_read(self, written: list[Reading]) -> list[Row]:
        """Write all in one batch; what is then at the measurement and time of each."""
        queries = [Query(each.measurement, each.time_ns, each.time_ns + 1) for each in written]
        return self.runner.run(self._write_and_read(written, *queries))

    async def _write_and_read(self, written: list[Reading], *queries: Query) -> list[Row]:
        await self.store.write("acme", [encode(reading).encode() for reading in written])
        found: list[Row] = []
        for query in queries:
            found += [row async for chunk in self.store.history("acme", query) for row in chunk]
        return found


@st.composite
def batches(draw: st.DrawFn) -> list[Reading]:
    """Readings for one write, each of a measurement of its own, all within the shard of one week."""
    several = draw(st.lists(readings(key=names.filter(lambda name: '"' not in name)), min_size=1, max_size=8))
    return [
        reading._replace(measurement=f"{reading.measurement}{next(numbers)}", time_ns=NOW + reading.time_ns % DAY)
        for reading in several
    ]


@pytest.fixture(scope="module")
def influxdb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with asyncio.Runner() as runner:
        influxd = Influxd(tmp_path_factory.mktemp("influxd"))
        runner.run(influxd.start())
        front = InfluxV2Front(influxd, ["acme"])
        runner.run(front.__aenter__())
        store = InfluxDBStore(InfluxDB(url=front.url, org=front.org), front.token)
        runner.run(store.open())
        yield Server(runner, store)
        runner.run(store.close())
        runner.run(front.__aexit__(None, None, None))
        runner.run(influxd.stop())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(batch=batches())
@example(batch=[Reading("acme", "a", "x0", {"k": "a\\,b"}, {"s": "x\ny", "t": 'a" 1=2,b="'}, NOW)])
def test_influxdb_reads_back_the_same_readings(influxdb: Server, batch: list[Reading]) -> None:
    """Readings written to a real influxd come back the same, whatever else is in the batch."""
    found = influxdb.write_and_read(batch)
    assert [(row.tags, typed(row.fields), row.time_ns) for row in found] == [said(each)[1:] for each in batch]


def test_influxdb_reads_every_short_tag_and_text(influxdb: Server) -> None:
    """No combination of what line protocol treats specially can end a tag, a text or a line before its end."""
    texts = every('"\\\n ,=x', 4)
    tags = [tag for tag in every('"\\ ,=x', 4) if tag_is_writable(tag)]
    batch = [
        Reading("acme", "a", "every", {"k": tag, "l": '"'}, {"s": f"{text}\nforged,device=b v=1.0 1\n", "v": 1}, at)
        for at, (tag, text) in enumerate(zip(cycle(tags), texts, strict=False), NOW)
    ]
    found = sorted(influxdb.write_and_read_all("every", batch))
    assert len(batch) > 2000
    assert [(row.tags, typed(row.fields), row.time_ns) for row in found] == [said(each)[1:] for each in batch]


def every(characters: str, longest: int) -> list[str]:
    """Every text of 1 to `longest` of these characters."""
    lengths = range(1, longest + 1)
    return ["".join(some) for length in lengths for some in product(characters, repeat=length)]
