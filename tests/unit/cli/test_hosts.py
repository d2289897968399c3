"""`gateway hosts`, and what other commands do where there are several."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import load
from tests.builders import STARTUP, write_config
from tests.unit.cli.command_line import Command

SETTINGS = """\
hosts:
  north: {url: https://north.example}
  south: {url: https://south.example}
store: {kind: influxdb}
"""
QUOTA = "quota: {messages: 50/s}\n"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    birch = f"# the second\n{QUOTA}host: south     # near its lab\n{STARTUP.replace('acme', 'birch')}"
    return write_config(tmp_path, SETTINGS, acme=STARTUP, birch=birch, cord=STARTUP.replace("acme", "cord"))


def test_list(run: Command, directory: Path) -> None:
    """Each host with its startups and the sum of their quotas, so that an operator can see where there is room."""
    assert run("hosts", "list", "-c", directory, "--json").json == [
        {"host": "north", "url": "https://north.example", "startups": ["acme", "cord"], "messages_a_second": 400},
        {"host": "south", "url": "https://south.example", "startups": ["birch"], "messages_a_second": 50},
    ]
    assert "acme, cord" in run("hosts", "list", "-c", directory).out


def test_list_of_one_host(run: Command, tmp_path: Path) -> None:
    """Without `hosts`, it says that there is one."""
    done = run("hosts", "list", "-c", write_config(tmp_path))
    assert (done.code, "one host serves all startups" in done.out) == (0, True)


def test_drain(run: Command, directory: Path) -> None:
    """Every startup of the host goes to another one; the files keep their comments, and the next one drained says that
    nothing is left."""
    done = run("hosts", "drain", "south", "-c", directory)
    assert (done.code, done.out.splitlines()[0]) == (0, "birch → north")
    assert "switch south off when nothing waits there" in done.out
    text = (directory / "startups" / "birch.yaml").read_text()
    assert text == f"# the second\n{QUOTA}host: north     # near its lab\n{STARTUP.replace('acme', 'birch')}"
    assert run("hosts", "drain", "south", "-c", directory, "--json").json == {}
    run("hosts", "drain", "north", "-c", directory)
    moved = load(directory)
    assert {one.host for one in moved.startups} == {("south",)}
    assert "host: south\ntopics:" in (directory / "startups" / "acme.yaml").read_text()


def test_drain_of_the_last_host(run: Command, tmp_path: Path) -> None:
    """Nothing is changed where there is nowhere to go."""
    write_config(tmp_path, "hosts: {north: {url: http://north.example}}\n")
    done = run("hosts", "drain", "north", "-c", tmp_path)
    assert done.code == 1
    assert "north is the only host" in done.err
    assert (tmp_path / "startups" / "acme.yaml").read_text() == STARTUP


def test_a_new_startup_goes_where_there_is_room(run: Command, directory: Path) -> None:
    """Unless it is given its host."""
    run("startups", "add", "dune", "--name", "Dune", "-c", directory)
    run("startups", "add", "elm", "--name", "Elm", "--host", "north", "-c", directory)
    by_slug = load(directory).by_slug
    assert (by_slug["dune"].host, by_slug["elm"].host) == (("south",), ("north",))


def test_run_needs_to_know_its_host(run: Command, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one, and with one that does not exist, the error lists those that do."""
    done = run("run", "-c", directory)
    assert (done.code, "--host NAME" in done.err, "north, south" in done.err) == (1, True, True)
    monkeypatch.setenv("GATEWAY_HOST", "west")
    done = run("run", "-c", directory)
    assert (done.code, "got 'west'" in done.err, "north, south" in done.err) == (1, True, True)
