"""Types of fields on disk: what a restart and another worker find."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from gateway.rules.field_types import FieldTypes
from gateway.state import field_types
from gateway.state.database import FILE_NAME
from gateway.state.field_types import FieldType, Undecided, by_field
from gateway.state.reader import StateReader
from gateway.state.sequences import Sequences
from gateway.state.workers import home
from tests.builders import NOW, database

LOCK = FieldType("acme", "climate", "t", "float", "th-1", NOW)


async def keep(path: Path, *rows: FieldType) -> None:
    path.mkdir(parents=True, exist_ok=True)
    async with database(path / FILE_NAME) as state:
        await state.write(lambda connection: field_types.keep(connection, rows))


async def read(path: Path, startup: str | None = None) -> list[FieldType]:
    return await asyncio.to_thread(StateReader(path).types, startup)


async def test_types_are_kept(tmp_path: Path) -> None:
    """Each field has one type, the newest, of all startups or of one."""
    other = replace(LOCK, startup="birch", type="int")
    await keep(tmp_path, LOCK, other, replace(LOCK, field="x", device=""))
    await keep(tmp_path, replace(LOCK, type="string", since_ns=NOW + 1))
    found = by_field(await read(tmp_path, "acme"))
    assert {key[2]: row.type for key, row in found.items()} == {"t": "string", "x": "float"}
    assert other in await read(tmp_path)
    assert await read(tmp_path / "nothing") == []


async def test_types_of_all_workers_are_one(tmp_path: Path) -> None:
    """A startup that moves to another worker keeps its types; what one worker forgot stays forgotten."""
    second = home(tmp_path, 1)
    await keep(tmp_path, LOCK, replace(LOCK, field="x"))
    await keep(second, replace(LOCK, field="x", type="", since_ns=NOW + 1), replace(LOCK, field="y"))
    rows = await read(tmp_path)
    assert {key[2] for key in by_field(rows)} == {"t", "y"}
    types = FieldTypes()
    types.load(rows)
    assert set(types.of("acme", "climate").locked) == {"t", "y"}
    await keep(second, replace(LOCK, field="t", type="", since_ns=NOW + 2))
    types.load(await read(tmp_path))
    assert set(types.of("acme", "climate").locked) == {"y"}


def test_what_a_worker_has_just_locked_is_not_overwritten() -> None:
    """A type that is not on disk yet is newer than everything there."""
    types = FieldTypes()
    types.of("acme", "climate").lock("t", "string", "th-2")
    types.load([LOCK])
    assert types.of("acme", "climate").locked["t"].type == "string"
    (made,) = types.take_new(NOW + 9)
    assert (made.type, made.since_ns) == ("string", NOW + 9)
    assert types.take_new(NOW + 9) == []
    types.put_back([made])
    assert types.take_new(NOW + 10) == [replace(made, since_ns=NOW + 10)]


async def test_waiting_messages_are_kept_until_they_are_decided(tmp_path: Path) -> None:
    """They are there after a restart, the oldest first, and gone with what became of them."""
    first = Undecided("acme", "climate", "testbed/acme/th-1/climate", b"\x00\xff", NOW)
    second = replace(first, stamp_ns=NOW + 1, startup="birch")
    async with database(tmp_path / FILE_NAME) as state:
        await state.write(lambda connection: field_types.put(connection, [second, first]))
        assert await state.read(field_types.undecided) == [first, second]
        await state.write(lambda connection: field_types.remove(connection, [first]))
        assert await state.read(field_types.undecided) == [second]


async def test_a_file_of_an_earlier_build_gets_the_tables(tmp_path: Path) -> None:
    """A state file without them has no types, and gets the tables when a gateway opens it."""
    async with database(tmp_path / FILE_NAME) as state:
        await state.write(lambda connection: connection.execute("DROP TABLE types"))
        await state.write(lambda connection: connection.execute("DROP TABLE undecided"))
        await state.write(lambda connection: connection.execute("DROP TABLE sequences"))
    assert await read(tmp_path) == []
    await keep(tmp_path, LOCK)
    assert await read(tmp_path) == [LOCK]
    async with database(tmp_path / FILE_NAME) as state:
        await state.read(Sequences().load)
