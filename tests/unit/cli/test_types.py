"""`gateway types`, and what `gateway check` says of a type that is on disk."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from gateway.state import field_types
from gateway.state.database import FILE_NAME
from gateway.state.field_types import FieldType
from tests.builders import NOW, STARTUP, database, write_config
from tests.unit.cli.command_line import Command


@pytest.fixture
async def directory(tmp_path: Path) -> Path:
    """A configuration whose gateway has locked two fields."""
    made = write_config(tmp_path / "config", "state_dir: ../state\nhttp: {listen: '127.0.0.1:1'}")
    (tmp_path / "state").mkdir()
    rows = [
        FieldType("acme", "climate", "temperature", "int", "", NOW),
        FieldType("acme", "climate", "mode", "string", "th-1", NOW),
    ]
    async with database(tmp_path / "state" / FILE_NAME) as state:
        await state.write(lambda connection: field_types.keep(connection, rows))
    return made


def test_list(directory: Path, run: Command) -> None:
    """Each field is listed with its type, since when, and the device that sent its first value."""
    lines = run("types", "list", "acme", "-c", directory).out.splitlines()
    assert lines[1].split() == ["climate", "mode", "string", "2026-11-18T11:06:40Z", "th-1"]
    assert "(named by its rule)" in lines[2]
    assert run("types", "list", "acme", "-c", directory, "--json").json[0] == {
        "measurement": "climate",
        "field": "mode",
        "type": "string",
        "device": "th-1",
        "since": "2026-11-18T11:06:40Z",
    }
    assert "no readings of beta" in run("types", "list", "beta", "-c", directory).out


def test_check_finds_a_type_that_the_store_has_otherwise(directory: Path, run: Command) -> None:
    """A rule that declares another type than the readings have is a problem, with its file and line."""
    done = run("check", directory)
    assert done.code != 0
    assert "acme.yaml:6" in done.err
    assert "topics.climate.fields.temperature.type" in done.err
    assert "gateway types forget acme climate temperature" in done.err.replace("\n", " ")
    problems = run("check", directory, "--json").json["problems"]
    assert (problems[0]["line"], problems[0]["got"]) == (6, "float")


def test_check_accepts_what_can_be_written(directory: Path, run: Command, tmp_path: Path) -> None:
    """An integer can be written where the readings are floats, so it is no problem; nor is the same type."""
    for kind in ("int", "float"):
        write_config(tmp_path / "config", None, acme=STARTUP.replace("float", "int"))
        row = FieldType("acme", "climate", "temperature", kind, "", NOW + 1)
        path = tmp_path / "state" / FILE_NAME
        connection = sqlite3.connect(path)
        with connection:
            field_types.keep(connection, [row])
        connection.close()
        assert run("check", directory).code == 0


def test_check_says_that_it_could_not_compare(directory: Path, run: Command, tmp_path: Path) -> None:
    """A state that cannot be read is a warning: the configuration may be checked on another machine."""
    (tmp_path / "state" / FILE_NAME).write_bytes(b"not a database" * 100)
    done = run("check", directory, "--json").json
    assert done["ok"]
    assert "not compared" in done["warnings"][0]


def test_forget_needs_a_running_gateway(directory: Path, run: Command) -> None:
    """Without one, the command says so."""
    done = run("types", "forget", "acme", "climate", "mode", "-c", directory, "--token", "x")
    assert done.code != 0
    assert "no gateway answers" in done.err
