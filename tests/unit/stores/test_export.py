"""The export of a startup: its files hold what was stored."""

from __future__ import annotations

import asyncio
import csv
import gzip
import io
import os
from collections.abc import AsyncIterator
from pathlib import Path
from unittest.mock import AsyncMock

import pytest

from gateway import timestamps
from gateway.config import Startup
from gateway.errors import GatewayError, StoreUnavailable, StoreUnreadable
from gateway.line_protocol import encode
from gateway.model import FieldValue, Reading
from gateway.stores.contract import Columns
from gateway.stores.export import NOTHING, Exported, export, is_exported
from gateway.stores.sqlite import SqliteStore
from tests.builders import STARTUP, startup, write_config
from tests.line_protocol_parser import Point, parse
from tests.unit.cli.command_line import Command

START = 1_795_000_000_000_000_001
TEXTS = [
    "plain",
    "two\nlines",
    "carriage\r\nreturn",
    "a, b",
    'say "hi"',
    "back\\slash",
    " spaces ",
    "Zürich µ 🌡",
    "",
    "'",
]
ACME = startup(
    topics={
        "climate": {
            "topic": "testbed/acme/{device}/{room}/climate",
            "fields": {"t": {"type": "float"}, "on": {"type": "bool"}},
        }
    }
)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    made = SqliteStore(tmp_path / "store")
    await made.open()
    yield made
    await made.close()


def reading(number: int, fields: dict[str, FieldValue], measurement: str = "climate", room: str = "lab") -> Reading:
    return Reading("acme", "th-1", measurement, {"room": room}, fields, START + number * 1_000_000_000)


async def stored(store: SqliteStore, *readings: Reading) -> None:
    await store.write("acme", [encode(one).encode() for one in readings])


def points(directory: Path, measurement: str = "climate") -> list[Point]:
    """Return the line protocol of an export, parsed without any code of the gateway."""
    return parse(gzip.decompress((directory / f"{measurement}.lp.gz").read_bytes()).decode())


def table(directory: Path, measurement: str = "climate") -> list[dict[str, str]]:
    text = gzip.decompress((directory / f"{measurement}.csv.gz").read_bytes()).decode()
    return list(csv.DictReader(io.StringIO(text, newline="")))


def point(one: Reading) -> Point:
    return Point(one.measurement, {"device": one.device, **one.tags}, dict(one.fields), one.time_ns)


async def exported(store: SqliteStore, directory: Path, of: Startup = ACME) -> Exported:
    return await export(of, store, directory)


async def test_readings_are_exported_unchanged(store: SqliteStore, tmp_path: Path) -> None:
    """Both files have every reading with its tags, its values and their types, and its time to the ns."""
    readings = [
        reading(0, {"t": 21.5, "on": True}),
        reading(1, {"t": -0.1 + 0.2, "on": False}),
        reading(2, {"t": 1e-300}),
        reading(3, {"t": 5.0, "extra": 9_007_199_254_740_993}),
    ]
    await stored(store, *readings)
    done = await exported(store, tmp_path / "out")
    assert done.readings == len(readings)
    assert [path.name for path in done.files] == ["climate.csv.gz", "climate.lp.gz"]
    assert points(tmp_path / "out") == [point(one) for one in readings]
    rows = table(tmp_path / "out")
    assert list(rows[0]) == ["time", "device", "room", "t", "on", "extra"]
    for row, one in zip(rows, readings, strict=True):
        assert timestamps.from_rfc3339(row["time"]) == one.time_ns
        assert (row["device"], row["room"]) == ("th-1", "lab")
        assert float(row["t"]) == one.fields["t"]
        assert row["on"] == str(one.fields.get("on", "")).lower()
    assert rows[3]["extra"] == "9007199254740993"


async def test_strings_are_exported_unchanged(store: SqliteStore, tmp_path: Path) -> None:
    """Strings with line breaks, commas, quotes and all kinds of letters are the same in the files."""
    readings = [reading(number, {"text": text, "n": number}) for number, text in enumerate(TEXTS)]
    await stored(store, *readings)
    await exported(store, tmp_path / "out")
    assert points(tmp_path / "out") == [point(one) for one in readings]
    assert [row["text"] for row in table(tmp_path / "out")] == TEXTS


async def test_only_the_owner_can_read_an_export(store: SqliteStore, tmp_path: Path) -> None:
    """From the first byte on, whatever the umask: the files, and the directories that are made for them."""
    await stored(store, reading(1, {"t": 1.0}))
    before = os.umask(0)
    try:
        done = await export(ACME, store, tmp_path / "made" / "out")
        nothing = await export(startup("bolt"), store, tmp_path / "nothing")
    finally:
        os.umask(before)
    for path in (*done.files, nothing.directory / NOTHING):
        assert path.stat().st_mode & 0o777 == 0o600
    for path in (done.directory, done.directory.parent, nothing.directory):
        assert path.stat().st_mode & 0o777 == 0o700


async def test_formula_is_escaped_only_in_the_table(store: SqliteStore, tmp_path: Path) -> None:
    """A spreadsheet that opens the table runs no formula; line protocol has the string unchanged."""
    await stored(store, reading(0, {"text": "=1+1"}))
    await exported(store, tmp_path / "out")
    assert table(tmp_path / "out")[0]["text"] == "'=1+1"
    assert points(tmp_path / "out")[0].fields == {"text": "=1+1"}


async def test_tags_are_exported_unchanged(store: SqliteStore, tmp_path: Path) -> None:
    """Each series keeps its tags, including those with spaces, commas and equals signs."""
    rooms = ["lab", "room, 2nd floor", "a=b", "Küche"]
    readings = [reading(number, {"t": 1.0}, room=room) for number, room in enumerate(rooms)]
    await stored(store, *readings)
    await exported(store, tmp_path / "out")
    assert sorted(points(tmp_path / "out"), key=lambda one: one.time or 0) == [point(one) for one in readings]
    assert {row["room"] for row in table(tmp_path / "out")} == set(rooms)


async def test_export_of_many_chunks_is_complete(store: SqliteStore, tmp_path: Path) -> None:
    """Tens of thousands of readings, which the store yields a few thousand at a time, are all there once."""
    readings = [reading(number, {"t": float(number)}) for number in range(20_001)]
    await stored(store, *readings)
    assert (await exported(store, tmp_path / "out")).readings == len(readings)
    assert points(tmp_path / "out") == [point(one) for one in readings]
    assert [float(row["t"]) for row in table(tmp_path / "out")] == [one.fields["t"] for one in readings]


async def test_interrupted_export_is_made_again(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files appear when all are complete; what a failed try left behind does not count as an export and is replaced."""
    out = tmp_path / "out"
    await stored(store, reading(0, {"t": 1.0}), reading(1, {"t": 1.0}, "wind"))
    with monkeypatch.context() as broken:
        broken.setattr(SqliteStore, "columns", AsyncMock(side_effect=[Columns((), ()), StoreUnavailable("down")]))
        with pytest.raises(StoreUnavailable):
            await exported(store, out)
    assert await asyncio.to_thread(list, out.glob("*.gz")) == []
    ended = startup(until="2026-01-01")
    assert not await asyncio.to_thread(is_exported, ended, out)
    assert (await exported(store, out)).readings == 2
    assert await asyncio.to_thread(is_exported, ended, out)
    assert not await asyncio.to_thread(is_exported, startup(until="2999-01-01"), out)


async def test_each_measurement_has_its_files(store: SqliteStore, tmp_path: Path) -> None:
    """Measurements that no rule names any longer are exported too; another startup's readings are not."""
    await stored(store, reading(0, {"t": 1.0}), reading(0, {"old": 1}, measurement="forgotten"))
    await store.write("bolt", [b"climate,device=x t=99.0 1", b"charging,device=x t=99.0 1"])
    await exported(store, tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"climate.csv.gz", "climate.lp.gz", "forgotten.csv.gz", "forgotten.lp.gz"}
    assert points(tmp_path / "out", "forgotten") == [point(reading(0, {"old": 1}, measurement="forgotten"))]
    assert len(points(tmp_path / "out")) == 1


async def test_exported_line_protocol_can_be_stored_again(store: SqliteStore, tmp_path: Path) -> None:
    """An export that is written into another store gives the same export."""
    await stored(store, *(reading(number, {"text": text}) for number, text in enumerate(TEXTS) if "\n" not in text))
    await exported(store, tmp_path / "out")
    body = gzip.decompress((tmp_path / "out" / "climate.lp.gz").read_bytes())
    other = SqliteStore(tmp_path / "other")
    await other.open()
    await other.write("acme", body.splitlines())
    await exported(other, tmp_path / "again")
    await other.close()
    assert points(tmp_path / "again") == points(tmp_path / "out")


async def test_export_without_readings_says_so(store: SqliteStore, tmp_path: Path) -> None:
    """A startup without readings has an export without data files, which differs from an empty directory: its cohort
    can be closed again, even when its bucket is gone."""
    ended, out, empty = startup(until="2026-01-01"), tmp_path / "out", tmp_path / "empty"
    done = await exported(store, out)
    assert (done.files, done.readings) == ((), 0)
    assert [path.name for path in out.iterdir()] == ["no-readings.txt"]
    empty.mkdir()
    assert await asyncio.to_thread(is_exported, ended, out)
    assert not await asyncio.to_thread(is_exported, ended, empty)


async def test_existing_files_are_not_overwritten(store: SqliteStore, tmp_path: Path) -> None:
    """A directory with files in it is rejected and stays unchanged; an empty one is accepted."""
    await stored(store, reading(0, {"t": 1.0}))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "climate.csv.gz").write_text("precious")
    with pytest.raises(GatewayError, match=r"out: expected an empty directory for the export; it has files in it"):
        await exported(store, tmp_path / "out")
    assert (tmp_path / "out" / "climate.csv.gz").read_text() == "precious"
    (tmp_path / "empty").mkdir()
    assert (await exported(store, tmp_path / "empty")).readings == 1


async def test_directory_that_cannot_be_written_is_reported(store: SqliteStore, tmp_path: Path) -> None:
    """The error names the directory."""
    await asyncio.to_thread((tmp_path / "file").write_text, "x")
    with pytest.raises(GatewayError, match=r"file/out: the export cannot be written; Not a directory"):
        await exported(store, tmp_path / "file" / "out")


class Hidden(SqliteStore):
    """A store that shows no readings, as InfluxDB does to a token without rights."""

    async def check_readable(self, startup: str) -> None:
        raise StoreUnreadable(f"no bucket {startup!r} is shown")


async def test_hidden_readings_fail_the_export(tmp_path: Path) -> None:
    """An export that may have missed everything fails."""
    store = Hidden(tmp_path / "store")
    await store.open()
    with pytest.raises(StoreUnreadable, match="no bucket 'acme'"):
        await exported(store, tmp_path / "out")
    await store.close()


def test_unreadable_data_is_not_deleted(run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--delete-data` fails where the data cannot be read; without it the startup is removed, and its data stays."""
    other = "topics: {air: {topic: 'testbed/birch/{device}/air', fields: {t: {type: float}}}}\nname: Birch\n"
    config = write_config(tmp_path / "config", "", acme=STARTUP, birch=other)
    monkeypatch.setattr("gateway.stores.build.make_store", lambda _config: Hidden(tmp_path / "store"))
    leave = ("startups", "remove", "acme", "--export-to", tmp_path / "out", "--config", config)
    failed = run(*leave, "--delete-data")
    assert failed.code == 1
    assert "acme is not exported, so nothing is deleted or revoked" in failed.err
    assert (config / "startups" / "acme.yaml").exists()
    left = run(*leave)
    assert left.code == 0
    assert "acme is not exported, and its data stays: no bucket 'acme' is shown" in left.err
    assert not (config / "startups" / "acme.yaml").exists()
