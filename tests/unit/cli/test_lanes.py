"""`gateway lanes release`: what it asks for, and what it prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.cli.http_client import Client
from tests.builders import write_config
from tests.unit.cli.command_line import Command


@pytest.mark.parametrize(("released", "code", "says"), [(True, 0, "goes on"), (False, 1, "had not stopped")])
def test_release(
    run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, released: bool, code: int, says: str
) -> None:
    """The command asks the running gateway, prints whether the lane goes on, and exits with 1 if it had not stopped."""
    asked: list[tuple[str, Any]] = []

    def post(_client: Client, path: str, body: Any) -> dict[str, Any]:
        asked.append((path, body))
        return {"startup": "acme", "released": released}

    monkeypatch.setattr(Client, "post", post)
    done = run("lanes", "release", "acme", "-c", write_config(tmp_path), "--token", "t")
    assert (done.code, says in done.out) == (code, True)
    done = run("lanes", "release", "acme", "-c", tmp_path, "--token", "t", "--json")
    assert done.json == {"startup": "acme", "released": released}
    assert asked == [("/v1/operator/lanes/release", {"startup": "acme"})] * 2
