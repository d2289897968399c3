"""The console beside the API, in one application. NiceGUI is one a process: each test mounts it anew."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from nicegui import Client
from starlette.types import Message

from gateway import console
from gateway.api import guesses
from gateway.api.auth import Tokens
from gateway.api.routes import create_api
from gateway.api.services import Services
from gateway.console.door import COOKIE
from gateway.console.open_pages import MAX_EACH
from gateway.state.database import FILE_NAME, Database
from tests.servers import eventually


@pytest.fixture
def api(services: Services) -> FastAPI:
    made = create_api(services)
    console.mount(made, services)
    return made


@pytest.fixture
async def browser(api: FastAPI, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    database = Database(tmp_path / FILE_NAME)
    await database.open()
    async with api.router.lifespan_context(api):
        transport = httpx.ASGITransport(api, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test.local") as client:
            yield client
        for page in list(Client.instances.values()):
            page.delete()
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


async def signed_in(browser: httpx.AsyncClient, token: str) -> httpx.AsyncClient:
    """The browser of somebody who has signed in with a token."""
    browser.cookies.clear()  # of whoever was signed in before
    answer = await browser.post("/sign-in", data={"token": token})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    return browser


async def test_a_startup_opens_its_own_page_only(browser: httpx.AsyncClient, services: Services) -> None:
    """Another's page, one that does not exist and the operators' are rejected alike."""
    acme = await signed_in(browser, "acme-token")
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
    operator = await signed_in(browser, "operator-token")
    assert (await operator.get("/")).headers["location"] == "/operator"
    for path in ("/operator", "/startups/acme", "/startups/voltwise"):
        assert (await operator.get(path)).status_code == 200
    assert (await operator.get("/startups/nobody")).status_code == 404


async def test_the_end_of_a_programme_closes_the_page(browser: httpx.AsyncClient, services: Services) -> None:
    """As a reload of the configuration may bring it about; operators may still look."""
    ended = [one.model_copy(update={"until": date(2020, 1, 31)}) for one in services.config.startups]
    services.config = services.config.model_copy(update={"startups": tuple(ended)})
    answer = await (await signed_in(browser, "acme-token")).get("/startups/acme")
    assert answer.status_code == 403
    assert "ended on 31 Jan 2020" in answer.text
    assert (await (await signed_in(browser, "operator-token")).get("/startups/acme")).status_code == 200


async def test_a_forged_cookie_opens_nothing(browser: httpx.AsyncClient) -> None:
    """Nobody can choose the key of a sign-in: what a cookie held before is not what it holds after."""
    browser.cookies.set(COOKIE, "planted", domain="test.local", path="/")
    assert (await browser.get("/startups/acme")).status_code == 303
    answer = await browser.post("/sign-in", data={"token": "acme-token"})
    assert "planted" not in answer.headers["set-cookie"]
    browser.cookies.clear()
    browser.cookies.set(COOKIE, "planted", domain="test.local", path="/")
    assert (await browser.get("/startups/acme")).status_code == 303


async def test_each_sign_in_replaces_that_of_the_browser(browser: httpx.AsyncClient) -> None:
    """The key of the earlier one opens nothing any longer."""
    before = (await signed_in(browser, "acme-token")).cookies[COOKIE]
    await browser.post("/sign-in", data={"token": "operator-token"})
    assert (await browser.get("/operator")).status_code == 200
    browser.cookies.clear()
    browser.cookies.set(COOKIE, before, domain="test.local", path="/")
    assert (await browser.get("/startups/acme")).status_code == 303


@pytest.mark.parametrize(("scheme", "secure"), [("http", False), ("https", True)])
async def test_the_cookie_is_for_this_server_alone(api: FastAPI, scheme: str, secure: bool) -> None:
    """No script reads it, no other site sends it, and behind TLS it is never sent without."""
    transport = httpx.ASGITransport(api, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=f"{scheme}://test.local") as browser:
        cookie = (await browser.post("/sign-in", data={"token": "acme-token"})).headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert "path=/" in cookie
    assert ("secure" in cookie) is secure


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_another_site_signs_nobody_in(browser: httpx.AsyncClient, site: str) -> None:
    """Whoever owned the token would see what the visitor does."""
    answer = await browser.post("/sign-in", data={"token": "acme-token"}, headers={"Sec-Fetch-Site": site})
    assert "set-cookie" not in answer.headers
    assert (await browser.get("/startups/acme")).status_code == 303


async def test_wrong_tokens_are_slowed_and_the_right_one_is_not(
    browser: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also from the address that the wrong ones come from."""
    monkeypatch.setattr(guesses, "DELAY", 0.01)
    wrong = [await browser.post("/sign-in", data={"token": f"guess-{place}"}) for place in range(guesses.FREE + 1)]
    assert "Unknown token" in (await browser.get(wrong[0].headers["location"])).text
    assert "Too many wrong tokens" in (await browser.get(wrong[-1].headers["location"])).text
    assert (await (await signed_in(browser, "acme-token")).get("/startups/acme")).status_code == 200


@pytest.mark.parametrize("body", [b"", b"token=", b"token=%ff%fe", b"\xff\x00=&&", b"token=" + b"x" * 1_000_000])
async def test_no_form_breaks_the_sign_in(browser: httpx.AsyncClient, body: bytes) -> None:
    """Whatever a client sends."""
    answer = await browser.post("/sign-in", content=body)
    assert answer.headers["location"] == "/?problem=wrong"


@pytest.mark.parametrize("path", ["/", "/startups/acme", "/operator", "/_nicegui/x", "/nothing"])
async def test_no_address_or_cookie_breaks_the_page(api: FastAPI, browser: httpx.AsyncClient, path: str) -> None:
    """Whatever bytes a client sends, the answer is not an error of the gateway."""
    key = (await signed_in(browser, "acme-token")).cookies[COOKIE]
    for cookie in (b"testbed_console=\xff\xfe; ;;=;", f"{COOKIE}={key}".encode()):
        started: list[Message] = []

        async def send(message: Message, started: list[Message] = started) -> None:
            started.append(message)

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "scheme": "http"}
        headers = [(b"cookie", cookie), (b"x-forwarded-prefix", b'\xff"><script>')]
        rest = {"query_string": b"problem=%ff&\xff", "root_path": "", "client": ("192.0.2.1", 1), "server": ("h", 1)}
        await api({**scope, **rest, "headers": headers, "http_version": "1.1"}, receive, send)
        assert started[0]["status"] < 500


async def test_a_problem_in_the_address_is_not_shown(browser: httpx.AsyncClient) -> None:
    """The page knows its problems; it repeats nothing."""
    answer = await browser.get("/", params={"problem": "<script>alert(1)</script>"})
    assert "alert(1)" not in answer.text


async def test_a_reload_ends_pages_and_sign_ins(browser: httpx.AsyncClient, services: Services) -> None:
    """With the token: the pages that nobody shows any longer are gone as well."""
    acme = await signed_in(browser, "acme-token")
    assert (await acme.get("/startups/acme")).status_code == 200
    assert len(Client.instances) == 1
    services.use(services.config, Tokens({"acme": "another"}, "operator-token"))
    assert (await acme.get("/startups/acme")).status_code == 303
    await eventually(lambda: not Client.instances)
    assert "max-age=0" in (await acme.get("/")).headers["set-cookie"].lower()


async def test_visitors_without_a_token_leave_nothing(browser: httpx.AsyncClient, tmp_path: Path) -> None:
    """However many come, and whatever they ask for: no file, no page, no storage, no line of log."""
    before = sorted(path.name for path in tmp_path.rglob("*"))
    await _visit(browser, 20)
    gc.collect()
    objects = len(gc.get_objects())
    await _visit(browser, 300)
    gc.collect()
    assert len(gc.get_objects()) - objects < 300
    assert sorted(path.name for path in tmp_path.rglob("*")) == before
    assert not Client.instances


async def _visit(browser: httpx.AsyncClient, times: int) -> None:
    for place in range(times):
        for path in ("/", "/startups/acme", f"/{place}", "/_nicegui/x", "/_nicegui_ws/socket.io/?EIO=4"):
            answer = await browser.get(path)
            assert "set-cookie" not in answer.headers


async def test_open_pages_are_bounded(browser: httpx.AsyncClient) -> None:
    """A further one closes the oldest of the same startup; others keep theirs."""
    operator = await signed_in(browser, "operator-token")
    await operator.get("/operator")
    (kept,) = Client.instances
    acme = await signed_in(browser, "acme-token")
    for _ in range(MAX_EACH + 10):
        assert (await acme.get("/startups/acme")).status_code == 200
    await eventually(lambda: len(Client.instances) == MAX_EACH + 1)
    assert kept in Client.instances
