"""What unit tests share."""

from __future__ import annotations

import pytest

from tests.unit.cli.command_line import Command


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """A command line of this test's own."""
    return Command(monkeypatch, capsys)
