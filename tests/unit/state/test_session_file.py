"""The sessions that the gateway may have at the broker, over restarts."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.errors import StateUnavailable
from gateway.state.session_file import SessionFile

SESSIONS = {"acme": ["testbed/acme/#", "zigbee/+"], "bolt": ["testbed/bolt/#"]}


def test_sessions_are_read_as_written(tmp_path: Path) -> None:
    """A later run finds the filters of each session."""
    path = tmp_path / "sessions.json"
    assert SessionFile(path).read() == {}
    SessionFile(path).write(SESSIONS)
    assert SessionFile(path).read() == SESSIONS


@pytest.mark.parametrize("text", ["", "[]", "[1]", "[", "null", "\xff"])
def test_a_broken_file_is_none(tmp_path: Path, text: str) -> None:
    """A broken file counts as empty, and is written anew."""
    path = tmp_path / "sessions.json"
    path.write_bytes(text.encode("latin-1"))
    one = SessionFile(path)
    assert one.read() == {}
    one.write(SESSIONS)
    assert one.read() == SESSIONS


def test_a_file_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    """The error names the file."""
    with pytest.raises(StateUnavailable, match=r"sessions\.json"):
        SessionFile(tmp_path / "none" / "sessions.json").write(SESSIONS)
