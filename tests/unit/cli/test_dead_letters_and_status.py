"""The commands that look into the state: dead letters, and the status where nothing runs."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
from pathlib import Path

import pytest

from gateway.config.models import DeadLetterSettings
from gateway.model import UNROUTED, Counts
from gateway.state import dead_letters, ledger, refused_letters
from gateway.state.database import FILE_NAME
from gateway.state.journal import Block, Journal
from tests.builders import database, rejection, write_config
from tests.unit.cli.command_line import Command


def prepare(connection: sqlite3.Connection) -> None:
    """Some dead letters of two startups and of nobody, and a ledger that has all kinds of records."""
    rejections = [
        rejection(b'{"t": "\xff[bold]"}'),
        rejection(b"2", "beta", records=(1, 4)),
        rejection(b"line v=1 1", "beta", topic=""),
        rejection(b"4", UNROUTED, topic="nowhere"),
    ]
    for one in rejections:
        if one.topic:
            dead_letters.insert(connection, [one], DeadLetterSettings())
        else:
            refused_letters.insert(connection, one.startup, [one], DeadLetterSettings())
    Journal.append(connection, {"beta": Block.of(["a", "b"])})
    counts = {
        "acme": Counts(received=1, rejected=1),
        "beta": Counts(received=1_237, accepted=1_235, rejected=2, stored=1_234, refused=1),
        UNROUTED: Counts(received=1, rejected=1),
    }
    ledger.add(connection, counts)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A configuration whose state has been prepared, and at whose address nobody listens."""

    async def make() -> None:
        async with database(tmp_path / "state" / FILE_NAME) as state:
            await state.write(prepare)

    asyncio.run(make())
    return configuration(tmp_path)


def configuration(tmp_path: Path) -> Path:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    return write_config(tmp_path / "config", f"state_dir: ../state\nhttp: {{listen: '127.0.0.1:{port}'}}\n")


def test_list(run: Command, directory: Path) -> None:
    """Dead letters are listed, the newest first, each with its origin and reason."""
    done = run("dead-letters", "list", "-c", directory)
    assert done.code == 0
    rows = [line.split() for line in done.out.splitlines() if line.strip()[:1].isdigit()]
    assert [row[:3] for row in rows] == [
        ["4", "2026-11-18T11:06:40Z", "(no"],
        ["3", "2026-11-18T11:06:40Z", "beta"],
        ["2", "2026-11-18T11:06:40Z", "beta"],
        ["1", "2026-11-18T11:06:40Z", "acme"],
    ]
    assert "payload: expected a JSON object; got a brace (close it)" in done.out
    assert "(a point that the store refused)" in done.out


@pytest.mark.parametrize(
    ("arguments", "ids"),
    [(("beta",), [3, 2]), (("--limit", 2), [4, 3]), (("--unrouted",), [4]), (("nobody",), []), ((), [4, 3, 2, 1])],
)
def test_list_some(run: Command, directory: Path, arguments: tuple[object, ...], ids: list[int]) -> None:
    """Dead letters of one startup, of none, or a number of them can be listed."""
    done = run("dead-letters", "list", *arguments, "-c", directory, "--json")
    assert [one["id"] for one in done.json] == ids


def test_list_none(run: Command, directory: Path) -> None:
    """An empty list is reported as such."""
    assert run("dead-letters", "list", "nobody", "-c", directory).out == "no dead letters\n"


def test_show(run: Command, directory: Path) -> None:
    """A dead letter is shown with its origin, every reason, and its payload with unusual bytes escaped."""
    done = run("dead-letters", "show", 1, "-c", directory)
    assert done.code == 0
    for text in ("acme", "th-1", "testbed/acme/th-1/climate", "not_json", r'{"t": "\xff[bold]"}', "close it"):
        assert text in done.out
    assert ["records", "1,", "4"] in [
        line.split() for line in run("dead-letters", "show", 2, "-c", directory).out.splitlines()
    ]


def test_show_json(run: Command, directory: Path) -> None:
    """With --json a dead letter has all that the HTTP API returns."""
    found = run("dead-letters", "show", 2, "-c", directory, "--json").json
    assert (found["startup"], found["records"], found["payload"]) == ("beta", [1, 4], "2")


def test_show_missing(run: Command, directory: Path) -> None:
    """An unknown id is an invalid argument."""
    done = run("dead-letters", "show", 99, "-c", directory)
    assert done.code == 2
    assert "there is no dead letter 99" in done.err
    assert run("dead-letters", "show", 10**30, "-c", directory).code == 2


def test_status_without_a_running_gateway(run: Command, directory: Path) -> None:
    """Without a running gateway, status says so and how to start it, shows the ledger, and exits with 1."""
    done = run("status", "-c", directory)
    assert done.code == 1
    assert "not running" in done.out
    assert "`gateway run`" in done.out
    rows = {line.split()[0]: line.split() for line in done.out.splitlines() if line.strip()}
    assert rows["beta"] == ["beta", "1,239", "1,237", "2", "1,234", "2", "1", "✓"]
    assert rows["all"] == ["all", "1,241", "1,237", "4", "1,234", "2", "1", "✓"]
    assert "dead letters: (no startup) 1, acme 1, beta 2" in done.out


def test_status_json(run: Command, directory: Path) -> None:
    """With --json the same is there for programs."""
    done = run("status", "-c", directory, "--json")
    assert done.code == 1
    assert (done.json["running"], done.json["health"]) == (False, None)
    assert done.json["total"]["balanced"] is True
    assert done.json["startups"]["beta"]["journaled"] == 2
    assert done.json["dead_letters"] == {"acme": 1, "beta": 2, UNROUTED: 1}


@pytest.mark.parametrize("command", [("status",), ("dead-letters", "list"), ("dead-letters", "show", 1)])
def test_where_no_gateway_ever_ran(run: Command, tmp_path: Path, command: tuple[object, ...]) -> None:
    """Without any state, each command says how to start a gateway, in one line and without a traceback."""
    done = run(*command, "-c", configuration(tmp_path))
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: ")
    assert "start it with `gateway run`" in done.err
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("command", [("tail", "acme"), ("dead-letters", "replay", 1), ("lanes", "release", "acme")])
def test_commands_that_need_a_gateway(run: Command, directory: Path, command: tuple[object, ...]) -> None:
    """Commands that require a running gateway report that none answers, and at which address."""
    done = run(*command, "-c", directory)
    assert (done.code, done.out) == (1, "")
    assert "error: no gateway answers at http://127.0.0.1:" in done.err
    assert "`gateway run`" in done.err
