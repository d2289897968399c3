"""Logs: for people on a terminal, JSON elsewhere, and no more than requested."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from gateway.logs import configure, get_logger


@pytest.fixture(autouse=True)
def _put_back() -> Iterator[None]:
    """Leave logging as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_json_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """In a pipe each line is a JSON object with its level, time and module; lower levels are left out."""
    configure("info")
    get_logger("gateway.x").debug("unseen")
    get_logger("gateway.x").warning("disk full", left=0)
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    logged = json.loads(line)
    assert logged.pop("timestamp").endswith("Z")
    assert logged == {"event": "disk full", "left": 0, "level": "warning", "module": "gateway.x"}


def test_lines_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """On request the lines are for people."""
    configure("debug", "console")
    get_logger("gateway.x").debug("broker connected", broker="here")
    text = capsys.readouterr().err
    assert "broker connected" in text
    assert not text.startswith("{")


def test_errors_have_their_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    """An exception that is logged comes with its traceback, inside the JSON."""
    configure("info", "json")
    try:
        dict[str, int]()["what"]
    except KeyError:
        get_logger("gateway.x").exception("failed")
    logged = json.loads(capsys.readouterr().err)
    assert "KeyError: 'what'" in logged["exception"]
