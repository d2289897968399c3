"""Runs `gateway ...` in this process, as the installed command does."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from gateway.__main__ import main


@dataclass(frozen=True)
class Finished:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Command:
    """`run("check", directory)`: one command."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        for name, value in {"TERM": "dumb", "NO_COLOR": "1", "COLUMNS": "200"}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("_TYPER_FORCE_DISABLE_TERMINAL", "1")

    def __call__(self, *arguments: object, stdin: bytes = b"") -> Finished:
        self._monkeypatch.setattr(sys, "argv", ["gateway", *map(str, arguments)])
        self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        self._capsys.readouterr()
        code: Any = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        printed = self._capsys.readouterr()
        return Finished(code, printed.out, printed.err)
