"""The console beside the API, in one application. NiceGUI is one a process: each test mounts it anew."""

from __future__ import annotations

import json
import time
from base64 import b64encode
from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import itsdangerous
import pytest
from fastapi import FastAPI

from gateway import console
from gateway.api.auth import Principal, Tokens
from gateway.api.routes import create_api
from gateway.api.services import Services
from gateway.config import load
from gateway.console import sessions
from gateway.feeds.live_ring import LiveFeeds
from gateway.health import Health
from gateway.state.database import FILE_NAME, Database
from gateway.state.reader import StateReader
from gateway.stores.sqlite import SqliteStore

SECRET = "secret"


async def _not_asked(*_arguments: object) -> Any:
    raise NotImplementedError


@pytest.fixture
def services(tmp_path: Path) -> Services:
    config = load(Path(__file__).parents[3] / "config")
    settings = config.settings.model_copy(update={"state_dir": tmp_path})
    return Services(
        config=config.model_copy(update={"settings": settings}),
        tokens=Tokens({"acme": "acme-token"}, "operator-token"),
        store=SqliteStore(tmp_path / "store"),
        live=LiveFeeds(100),
        state=StateReader(tmp_path),
        devices=lambda _startup: [],
        health=lambda: Health((), {}),
        measured=_not_asked,
        replay=_not_asked,
    )


@pytest.fixture
def api(services: Services) -> FastAPI:
    made = create_api(services)
    console.mount(made, services, SECRET)
    return made


@pytest.fixture
async def browser(api: FastAPI, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    database = Database(tmp_path / FILE_NAME)
    await database.open()
    async with api.router.lifespan_context(api):
        transport = httpx.ASGITransport(api, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client
    await database.close()


async def test_sign_in_is_at_the_root(browser: httpx.AsyncClient) -> None:
    """A visitor without a session is asked for a token, whatever the page."""
    door = await browser.get("/")
    assert door.status_code == 200
    assert "Sign in" in door.text
    assert door.headers["cache-control"] == "no-store"
    for path in ("/startups/acme", "/startups/nobody", "/operator"):
        answer = await browser.get(path)
        assert (answer.status_code, answer.headers["location"]) == (303, "/")


async def test_the_api_keeps_its_paths_and_its_problems(browser: httpx.AsyncClient) -> None:
    """What is wrong below /v1 is answered by the API, as if there were no console."""
    missing = await browser.get("/v1/nothing")
    assert missing.status_code == 404
    assert missing.headers["content-type"] == "application/problem+json"
    wrong = await browser.delete("/v1/startups/acme/devices")
    assert wrong.status_code == 405
    assert (await browser.get("/healthz")).json() == {"ok": True}
    assert (await browser.get("/docs")).status_code == 200
    assert "set-cookie" not in (await browser.get("/healthz")).headers


async def test_a_token_in_the_address_opens_nothing(browser: httpx.AsyncClient) -> None:
    """It would stand in logs and histories."""
    answer = await browser.get("/", params={"token": "acme-token"})
    assert answer.status_code == 200
    assert "Sign in" in answer.text
    assert (await browser.get("/startups/acme", params={"token": "acme-token"})).status_code == 303


async def test_the_page_loads_nothing_from_other_hosts(browser: httpx.AsyncClient) -> None:
    """A test bed may have no internet: no address of another host stands in the page."""
    text = (await browser.get("/")).text
    for start in ("src=", "href=", "url("):
        assert f'{start}"http' not in text
        assert f"{start}http" not in text
    assert (await browser.get("/favicon.ico")).status_code == 200


def signed_in(browser: httpx.AsyncClient, services: Services, startup: str | None) -> httpx.AsyncClient:
    """The browser of somebody who has signed in: the session on the server, and the cookie that names it."""
    storage: dict[str, Any] = {}
    sessions.sign_in(storage, Principal(startup), time.time())
    directory = services.config.state_dir / console.SESSIONS
    directory.mkdir(exist_ok=True)
    (directory / f"storage-user-{startup}.json").write_text(json.dumps(storage))
    session = b64encode(json.dumps({"id": str(startup)}).encode())
    browser.cookies.clear()  # of whoever was signed in before
    browser.cookies.set("testbed_console", itsdangerous.TimestampSigner(SECRET).sign(session).decode())
    return browser


async def test_a_startup_opens_its_own_page_only(browser: httpx.AsyncClient, services: Services) -> None:
    """Another's page, one that does not exist and the operators' are refused alike."""
    acme = signed_in(browser, services, "acme")
    own = await acme.get("/startups/acme")
    assert own.status_code == 200
    assert "Acme Air" in own.text
    assert (await acme.get("/")).headers["location"] == "/startups/acme"
    for path in ("/startups/voltwise", "/startups/nobody", "/operator"):
        answer = await acme.get(path)
        assert answer.status_code == 403
        assert "This page is not yours" in answer.text
        assert "Voltwise" not in answer.text


async def test_an_operator_opens_every_page(browser: httpx.AsyncClient, services: Services) -> None:
    """Those of all startups and the operators' own; a missing one is reported."""
    operator = signed_in(browser, services, None)
    assert (await operator.get("/")).headers["location"] == "/operator"
    for path in ("/operator", "/startups/acme", "/startups/voltwise"):
        assert (await operator.get(path)).status_code == 200
    assert (await operator.get("/startups/nobody")).status_code == 404


async def test_the_end_of_a_programme_closes_the_page(browser: httpx.AsyncClient, services: Services) -> None:
    """As a reload of the configuration may bring it about; operators may still look."""
    ended = [one.model_copy(update={"until": date(2020, 1, 31)}) for one in services.config.startups]
    services.config = services.config.model_copy(update={"startups": tuple(ended)})
    answer = await signed_in(browser, services, "acme").get("/startups/acme")
    assert answer.status_code == 403
    assert "ended on 31 Jan 2020" in answer.text
    assert (await signed_in(browser, services, None).get("/startups/acme")).status_code == 200


async def test_a_forged_cookie_opens_nothing(browser: httpx.AsyncClient, services: Services) -> None:
    """The cookie names a session, and is signed."""
    signed_in(browser, services, "acme")
    session = b64encode(json.dumps({"id": "acme"}).encode())
    browser.cookies.clear()  # of whoever was signed in before
    browser.cookies.set("testbed_console", itsdangerous.TimestampSigner("guessed").sign(session).decode())
    assert (await browser.get("/startups/acme")).status_code == 303
