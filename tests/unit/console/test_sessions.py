"""Sign-ins, and the limit on guesses."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from gateway.api.auth import Principal
from gateway.config import load
from gateway.console import sessions
from gateway.console.sessions import GUESSES, MAX_ADDRESSES, MAX_AGE, WINDOW, Throttle

CONFIG = load(Path(__file__).parents[3] / "config")
NOW = 1_795_000_000.0


@pytest.mark.parametrize("principal", [Principal("acme"), Principal(None)])
def test_a_session_remembers_its_principal(principal: Principal) -> None:
    """Until somebody signs out."""
    storage: dict[str, Any] = {}
    sessions.sign_in(storage, principal, NOW)
    assert sessions.principal(storage, CONFIG, NOW + 1) == principal
    sessions.sign_out(storage)
    assert sessions.principal(storage, CONFIG, NOW + 1) is None
    assert storage == {}


def test_a_session_ends() -> None:
    """After 30 days, or when the startup is gone."""
    storage: dict[str, Any] = {}
    sessions.sign_in(storage, Principal("acme"), NOW)
    assert sessions.principal(storage, CONFIG, NOW + MAX_AGE + 1) is None
    sessions.sign_in(storage, Principal("gone"), NOW)
    assert sessions.principal(storage, CONFIG, NOW) is None


@pytest.mark.parametrize(
    "storage", [{}, {"who": "operator"}, {"who": 1, "until": NOW * 2}, {"who": "acme", "until": "x"}]
)
def test_foreign_storage_is_not_a_sign_in(storage: dict[str, Any]) -> None:
    """Whatever stands in the file."""
    assert sessions.principal(storage, CONFIG, NOW) is None


def test_a_startup_named_operator_is_not_an_operator() -> None:
    """The two cannot be confused."""
    storage: dict[str, Any] = {}
    sessions.sign_in(storage, Principal("operator"), NOW)
    assert sessions.principal(storage, CONFIG, NOW) is None


def test_a_token_opens_its_page() -> None:
    """A startup's its own, an operator's all."""
    assert sessions.home(Principal("acme")) == "/startups/acme"
    assert sessions.home(Principal(None)) == "/operator"


def test_ten_wrong_tokens_a_minute_are_checked() -> None:
    """From one address; others do not suffer, and the oldest failure makes room first."""
    throttle = Throttle()
    for second in range(GUESSES):
        assert throttle.wait("10.0.0.1", NOW + second) == 0
        throttle.failed("10.0.0.1", NOW + second)
    assert throttle.wait("10.0.0.1", NOW + 20) == WINDOW - 20
    assert throttle.wait("10.0.0.2", NOW + 20) == 0
    assert throttle.wait("10.0.0.1", NOW + WINDOW) == 0


def test_addresses_are_forgotten() -> None:
    """The memory for failures is bounded: the addresses that failed last are in it."""
    throttle = Throttle()
    addresses = [str(number) for number in range(MAX_ADDRESSES + 10)]
    for address in addresses:
        for _ in range(GUESSES):
            throttle.failed(address, NOW)
    assert [address for address in addresses if throttle.wait(address, NOW)] == addresses[-MAX_ADDRESSES:]


def test_files_of_old_sessions_are_removed(tmp_path: Path) -> None:
    """Nobody can use them any longer."""
    for name, age in (
        ("storage-user-old.json", MAX_AGE + 10),
        ("storage-user-new.json", 10),
        ("other.json", MAX_AGE * 2),
    ):
        (tmp_path / name).write_text("{}")
        os.utime(tmp_path / name, (NOW - age, NOW - age))
    sessions.forget_old(tmp_path, NOW)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.json", "storage-user-new.json"]
    sessions.forget_old(tmp_path / "none", NOW)
