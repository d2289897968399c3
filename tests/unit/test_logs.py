"""Logs: for people on a terminal, JSON elsewhere, and no more than requested."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from gateway import logs
from gateway.logs import BURST, configure, get_logger
from tests.servers import eventually

HOSTILE = "a\x1b]0;owned\x07\x9b2J\r\nforged\u2028\u2029\u202eline\ud800\x00\u2066"
ESCAPED = r"a\x1b]0;owned\x07\x9b2J\r\nforged\u2028\u2029\u202eline\ud800\x00\u2066"


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


@pytest.mark.parametrize("format_", ["console", "json"])
@pytest.mark.parametrize("logger", ["own", "uvicorn.error", "nicegui", "asyncio"])
def test_no_text_breaks_a_line(capsys: pytest.CaptureFixture[str], format_: str, logger: str) -> None:
    """One event is one line, whoever logs it and whatever is in it: control characters are escaped, also in errors."""
    configure("info", format_)
    try:
        raise ValueError(HOSTILE) from RuntimeError(HOSTILE)
    except ValueError:
        if logger == "own":
            get_logger("gateway.x").exception(HOSTILE, path=[HOSTILE], **{HOSTILE: {HOSTILE: HOSTILE}})
        else:
            logging.getLogger(logger).exception("got %s", HOSTILE)
    printed = capsys.readouterr().err
    assert printed.endswith("\n")
    (line,) = printed[:-1].split("\n")
    plain = "".join(part.partition("m")[2] if place else part for place, part in enumerate(line.split("\x1b[")))
    assert all(one.isprintable() for one in plain)
    text = " ".join(_texts(json.loads(line))) if format_ == "json" else plain.replace(r"\\", "\\")
    assert f"ValueError: {ESCAPED}" in text
    assert f"RuntimeError: {ESCAPED}" in text
    assert "test_logs.py" in text
    assert text.count(ESCAPED) == (7 if logger == "own" else 3)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, one in value.items():
            yield key
            yield from _texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)
    else:
        yield str(value)


def test_a_group_of_errors_is_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    """Each has its place in the line."""
    configure("info", "json")
    try:
        raise ExceptionGroup("two", [KeyError("first"), OSError("second")])
    except ExceptionGroup:
        get_logger("gateway.x").exception("failed")
    logged = json.loads(capsys.readouterr().err)["exception"]
    assert "KeyError: 'first'" in logged
    assert "OSError: second" in logged


def test_a_long_value_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    """No event fills the disk."""
    configure("info", "json")
    logging.getLogger("uvicorn.error").error("x" * 1_000_000)
    get_logger("gateway.x").error("failed", value="x" * 1_000_000, several=["y"] * 1_000_000)
    assert len(capsys.readouterr().err) < 50_000


async def test_a_flood_becomes_one_line_with_a_count(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is bounded by the kind of event, whatever stands in it; other kinds are logged all the same."""
    monkeypatch.setattr(logs, "WINDOW", 0.5)
    configure("info", "json")
    for number in range(10_000):
        logging.getLogger("nicegui").warning(f"http://host/{number} not found")
        get_logger("gateway.x").warning("flood", number=number)
    get_logger("gateway.x").warning("another")
    # The counts are printed by timers; reading meanwhile could tear their lines.
    await eventually(lambda: not any(isinstance(one, threading.Timer) for one in threading.enumerate()))
    logged = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    flood = [line for line in logged if line["event"] == "flood"]
    assert sum(line.get("left_out", 1) for line in flood) == 10_000
    assert sum(line["event"] == "another" for line in logged) == 1
    assert len(logged) < 10_000 / 10
    assert all(line["level"] == "warning" for line in logged)


def test_kinds_of_events_are_bounded(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever finds a way to choose the kind gains nothing."""
    configure("info", "json")
    for number in range(5000):
        get_logger("gateway.x").warning(f"event {number}")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert sum(line["event"].startswith("event ") for line in lines) <= logs.MAX_KINDS + BURST
