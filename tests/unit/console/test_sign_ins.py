"""Sign-ins: they hold as long as the token that they were done with."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.api.auth import Principal, Tokens
from gateway.api.services import Services
from gateway.console.sign_ins import FILE_NAME, MAX_AGE, MAX_EACH, SignIns, home

TOKENS = {"acme": "acme-token", "voltwise": "voltwise-token"}
OPERATOR = "operator-token"
NOW = 1_795_000_000.0


class Clock:
    """A clock that stands until somebody sets it."""

    now = NOW

    def __call__(self) -> float:
        return self.now


async def loaded(services: Services, clock: Callable[[], float] = time.time) -> SignIns:
    """Sign-ins as the next run of the gateway finds them."""
    sign_ins = SignIns(services, clock)
    await asyncio.to_thread(sign_ins.load)
    return sign_ins


def renew(services: Services) -> None:
    """Acme has a new token."""
    services.use(services.config, Tokens(TOKENS | {"acme": "another"}, OPERATOR))


def remove(services: Services) -> None:
    """Acme is no longer configured."""
    others = tuple(one for one in services.config.startups if one.slug != "acme")
    services.use(services.config.model_copy(update={"startups": others}), Tokens({}, OPERATOR))


def add_again(services: Services) -> None:
    """Acme was removed, and is configured again with the same token."""
    config = services.config
    remove(services)
    services.use(config, Tokens(TOKENS, OPERATOR))


def swap(services: Services) -> None:
    """Another startup has acme's token."""
    services.use(services.config, Tokens({"acme": "voltwise-token", "voltwise": "acme-token"}, OPERATOR))


@pytest.mark.parametrize("change", [renew, remove, add_again, swap])
async def test_a_sign_in_ends_with_its_token(services: Services, change: Callable[[Services], None]) -> None:
    """At once, and for whoever has a page open; another's sign-in holds on."""
    sign_ins = SignIns(services)
    services.reloaded.append(sign_ins.check)
    acme, operator = await sign_ins.begin("acme-token"), await sign_ins.begin(OPERATOR)
    one = sign_ins.find(acme)
    assert one is not None
    assert one.principal == Principal("acme")
    heard: list[str] = []
    one.ending.add(heard.append)
    change(services)
    assert heard == ["ended"]
    assert sign_ins.find(acme) is None
    assert not sign_ins.holds(one)
    assert sign_ins.find(operator) is not None


async def test_a_new_operators_token_ends_the_operators_sign_ins(services: Services) -> None:
    """Also where nothing else has changed, and nobody called."""
    sign_ins = SignIns(services)
    key = await sign_ins.begin(OPERATOR)
    services.tokens = Tokens(TOKENS, "another")
    assert sign_ins.find(key) is None
    services.tokens = Tokens(TOKENS, OPERATOR)
    assert sign_ins.find(key) is None


async def test_each_sign_in_has_a_key_of_its_own(services: Services) -> None:
    """Nobody knows it before; a wrong token has none, and an unknown key is nobody's."""
    sign_ins = SignIns(services)
    first, second = await sign_ins.begin("acme-token"), await sign_ins.begin("acme-token")
    assert first != second
    assert await sign_ins.begin("wrong") is None
    for key in (None, "", "acme", "x" * 43, "\udcff"):
        assert sign_ins.find(key) is None


async def test_a_sign_in_survives_a_restart_and_ends_with_its_time(services: Services) -> None:
    """After 30 days; or when somebody signs out, which no restart brings back."""
    clock = Clock()
    sign_ins = SignIns(services, clock)
    stays, leaves = await sign_ins.begin("acme-token"), await sign_ins.begin("acme-token")
    gone = sign_ins.find(leaves)
    assert gone is not None
    await sign_ins.end(gone)
    again = await loaded(services, clock)
    assert again.find(leaves) is None
    assert again.find(stays) is not None
    clock.now += MAX_AGE + 1
    assert again.find(stays) is None


async def test_a_token_changed_while_the_gateway_was_away_ends_its_sign_ins(services: Services) -> None:
    """For good: the old token ends nothing if it returns later."""
    key = await SignIns(services).begin("acme-token")
    await loaded(replace(services, tokens=Tokens({}, OPERATOR)))
    again = await loaded(services)
    assert again.find(key) is None


async def test_the_file_opens_nothing(services: Services) -> None:
    """It holds hashes, and only its owner can read it."""
    key = await SignIns(services).begin("acme-token")
    path = services.config.state_dir / FILE_NAME
    text = path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert key is not None
    assert key not in text
    assert "acme-token" not in text
    again = await loaded(services)
    assert again.find(json.loads(text)[0]["key"]) is None


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", '[{"key": "a"}]', '[{"key":"a","startup":1,"token":"zz","until":1}]']
)
async def test_a_foreign_file_is_no_sign_in(services: Services, text: str) -> None:
    """Whatever it holds, the page opens, and a sign-in replaces it."""
    path = services.config.state_dir / FILE_NAME
    path.write_text(text)
    sign_ins = await loaded(services)
    assert sign_ins.find(await sign_ins.begin("acme-token")) is not None


async def test_sign_ins_of_one_token_are_bounded(services: Services) -> None:
    """The oldest end; those of others stay."""
    sign_ins = SignIns(services)
    other = await sign_ins.begin("voltwise-token")
    keys = [await sign_ins.begin("acme-token") for _ in range(MAX_EACH + 5)]
    assert [sign_ins.find(key) is None for key in keys] == [True] * 5 + [False] * MAX_EACH
    assert sign_ins.find(other) is not None


async def test_a_full_disk_does_not_keep_anybody_out(services: Services, tmp_path: Path) -> None:
    """The sign-in holds until the gateway restarts."""
    settings = services.config.settings.model_copy(update={"state_dir": tmp_path / "missing"})
    services.config = services.config.model_copy(update={"settings": settings})
    sign_ins = SignIns(services)
    assert sign_ins.find(await sign_ins.begin("acme-token")) is not None


def test_a_token_opens_its_page() -> None:
    """A startup's its own, an operator's all."""
    assert home(Principal("acme")) == "/startups/acme"
    assert home(Principal(None)) == "/operator"
