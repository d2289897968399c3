"""Commands on a terminal or a pipe that is not UTF-8."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from tests.running import write_config
from tests.servers import commands

NAME = "T\u00e9 \u201cX\u201d \U0001f321 \u2713"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    directory = write_config(tmp_path / "config", "mqtt://127.0.0.1:1")
    path = directory / "startups" / "acme.yaml"
    path.write_text(path.read_text().replace("name: Acme", f"name: '{NAME}'"), encoding="utf-8")
    return directory


async def run(encoding: str, *arguments: object) -> commands.Finished:
    environment = os.environ | {"PYTHONUTF8": "0", "PYTHONIOENCODING": encoding, "LC_ALL": "C", "NO_COLOR": "1"}
    return await commands.run(sys.executable, "-m", "gateway", *map(str, arguments), env=environment)


async def test_result_is_legible_in_ascii(config: Path) -> None:
    """Where standard output cannot show a mark, the line has a plain one, and the command succeeds."""
    done = await run("ascii", "check", config)
    assert (done.code, done.out) == (0, "+ 2 startups, 2 topic rules: all good\n")


async def test_names_are_escaped_in_ascii(config: Path) -> None:
    """Where standard output cannot show a character of a name, it is escaped."""
    done = await run("ascii", "startups", "list", "--config", config)
    assert done.code == 0
    assert r"T\u00e9 \u201cX\u201d \ud83c\udf21 +" in done.out


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
async def test_json_has_the_same_value_in_any_encoding(config: Path, encoding: str) -> None:
    """Programs read the same names, marks among them."""
    done = await run(encoding, "startups", "list", "--json", "--config", config)
    assert json.loads(done.out)[0]["name"] == NAME
    assert (NAME in done.out) == (encoding == "utf-8")


async def test_error_is_legible_in_ascii(config: Path) -> None:
    """An error on standard error that quotes such a character is printed, without a traceback."""
    path = config / "startups" / "acme.yaml"
    path.write_text(path.read_text(encoding="utf-8") + "devices: ['\u2713\u00e9']\n", encoding="utf-8")
    done = await run("ascii", "check", config)
    assert done.code == 1
    assert r"+\u00e9" in done.out + done.err
    assert "Traceback" not in done.err


async def test_help_is_legible_in_ascii() -> None:
    """The boxes around the options are drawn in ASCII."""
    done = await run("ascii", "run", "--help")
    assert (done.code, done.err) == (0, "")
    assert "--workers" in done.out
