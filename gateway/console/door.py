"""Way in: the sign-in, and nothing else for somebody who has not signed in.

NiceGUI keeps something of every visitor, and logs much of what they send. So it is reached only with a sign-in, and the
page to sign in is made without it: it works without scripts, and leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from contextlib import suppress
from html import escape
from typing import Any
from urllib.parse import parse_qs

import nicegui
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketClose

from gateway.api.connections import Connection
from gateway.api.services import Services
from gateway.console import theme
from gateway.console.open_pages import MAX_SOCKETS, OpenPages
from gateway.console.sign_ins import MAX_AGE, SignIn, SignIns, home

COOKIE = "testbed_console"
MAX_FORM = 4096
MAX_QUERY = 1024
HELLO_WITHIN = 5.0
MAX_HELD = 64
"""Answers to wrong tokens that wait at a time; further ones are given at once."""
SOCKET = "/_nicegui_ws/socket.io"
_PAGES = re.compile(r"/(operator|startups/[a-z0-9-]{1,64})")
_FILES = re.compile(
    rf"/_nicegui/{re.escape(nicegui.__version__)}/(static|libraries|components|resources|dynamic_resources|esm)/.+"
)
_PROBLEMS = {
    "wrong": "Unknown token. Copy it again, completely and without spaces; if it still does not work, ask the operator "
    "of the test bed for a new one.",
    "wait": "Too many wrong tokens from your address. Wait a minute before the next try; the right token always works.",
    "ended": "Your sign-in has ended: its token is no longer valid, or its time is over. Sign in again.",
    "many": "This page was closed because too many pages of the same token were open.",
    "foreign": "The form was sent from another page. Sign in here.",
}
_FORM = """<!DOCTYPE html>
<html lang="en-GB"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sign in · {title}</title><link rel="icon" href="/favicon.ico" type="image/svg+xml"><style>{css}
body {{ margin: 0; }}</style></head>
<body><main class="centred"><div class="card centred-card"><div class="brand">{logo}<span>{title}</span></div>
<h1>Sign in</h1><form class="sign-in-form" method="post" action="/sign-in"><label for="token">Token</label>
<input id="token" name="token" type="password" autocomplete="current-password" autofocus required spellcheck="false"
 maxlength="512" aria-describedby="problem"><div class="sign-in-problem" id="problem" role="alert">{problem}</div>
<button class="button" type="submit">Sign in</button></form>
<p class="muted">The operator of the test bed gives each startup a token. It opens the startup’s own page: live charts,
devices, and what was rejected and why.</p></div></main></body></html>"""


class Door:
    """NiceGUI's application, for those who have signed in."""

    def __init__(self, pages: ASGIApp, sign_ins: SignIns, open_pages: OpenPages) -> None:
        self._pages = pages
        self._sign_ins = sign_ins
        self._open_pages = open_pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sign_in = self._sign_ins.find(HTTPConnection(scope).cookies.get(COOKIE))
        if scope["type"] == "websocket":
            await self._connect(sign_in, scope, receive, send)
            return
        answer = self._instead(sign_in, scope)
        if answer is not None:
            await answer(scope, receive, send)
            return
        scope["sign_in"] = sign_in
        _vouch(scope)
        await self._pages(scope, receive, send)

    def _instead(self, sign_in: SignIn | None, scope: Scope) -> Response | None:
        """Return the answer to a request that is not for NiceGUI."""
        path = scope["path"]
        is_page = _PAGES.fullmatch(path) is not None
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("Method Not Allowed", 405, {"Allow": "GET"})
        if not scope["query_string"].isascii():
            return PlainTextResponse("Bad Request", 400)
        if not is_page and _FILES.fullmatch(path) is None:
            return PlainTextResponse("Not Found", 404)
        if sign_in is None:
            return RedirectResponse("/", 303) if is_page else PlainTextResponse("Sign in first", 401)
        return None

    async def _connect(self, sign_in: SignIn | None, scope: Scope, receive: Receive, send: Send) -> None:
        query = _parsed(scope["query_string"][:MAX_QUERY])
        is_ours = scope["path"].rstrip("/") == SOCKET and len(scope["query_string"]) <= MAX_QUERY
        if not is_ours or _is_foreign(HTTPConnection(scope)) or query.get("transport") != "websocket":
            await WebSocketClose()(scope, receive, send)
        elif sign_in is None or not self._may_connect(sign_in, query.get("client_id", "")):
            await _reload(WebSocket(scope, receive, send))
        else:
            _vouch(scope)
            await self._pages(scope, receive, send)

    def _may_connect(self, sign_in: SignIn, client_id: str) -> bool:
        """Return whether a socket may show this page: one of an earlier run is left to NiceGUI, which rejects it."""
        page = self._open_pages.get(client_id)
        return bool(client_id) and (page is None or (page.sign_in is sign_in and len(page.sockets) < MAX_SOCKETS))


async def _reload(socket: WebSocket) -> None:
    """Reject a socket as NiceGUI does, in the words of Engine.IO 4 and Socket.IO 5: the page loads itself again."""
    opened: dict[str, Any] = {"sid": "-", "upgrades": [], "pingInterval": 8000, "pingTimeout": 4000, "maxPayload": 1000}
    await socket.accept()
    await socket.send_text("0" + json.dumps(opened))
    with suppress(TimeoutError):
        async with asyncio.timeout(HELLO_WITHIN):
            await socket.receive()
    await socket.send_text('44{"message":"Implicit handshake failed"}')
    await socket.close()


def _vouch(scope: Scope) -> None:
    """Note that somebody known is at the other end, so that the connection is not among those that make room first."""
    connection: Connection | None = scope.get("state", {}).get("connection")
    if connection is not None:
        connection.vouch()


class Front:
    """Page to sign in, and what its form is sent to."""

    def __init__(self, services: Services, sign_ins: SignIns) -> None:
        self._services = services
        self._sign_ins = sign_ins
        self._held = asyncio.Semaphore(MAX_HELD)

    def install(self, api: FastAPI) -> None:
        """Add both to the application."""
        api.add_route("/", self._page, ["GET"], include_in_schema=False)
        api.add_route("/sign-in", self._sign_in, ["POST"], include_in_schema=False)
        api.add_route("/favicon.ico", _favicon, ["GET"], include_in_schema=False)

    async def _page(self, request: Request) -> Response:
        sign_in = self._sign_ins.find(request.cookies.get(COOKIE))
        if sign_in is not None:
            return RedirectResponse(home(sign_in.principal), 303)
        problem = _parsed(request.scope["query_string"]).get("problem", "")
        answer = HTMLResponse(_form(problem), headers={"Cache-Control": "no-store"})
        if COOKIE in request.cookies:
            answer.delete_cookie(COOKIE, secure=_is_secure(request), httponly=True, samesite="lax")
        return answer

    async def _sign_in(self, request: Request) -> Response:
        if _is_foreign(request):
            return _back("foreign")
        key = await self._sign_ins.begin(await _token(request))
        if key is None:
            return await self._wrong(request)
        before = self._sign_ins.find(request.cookies.get(COOKIE))
        if before is not None:
            await self._sign_ins.end(before)
        answer = RedirectResponse("/", 303, {"Cache-Control": "no-store"})
        secure = _is_secure(request)
        answer.set_cookie(COOKIE, key, max_age=MAX_AGE, secure=secure, httponly=True, samesite="lax")
        return answer

    async def _wrong(self, request: Request) -> Response:
        """Return the answer to a wrong token: after a few, not at once."""
        delay = self._services.guesses.wrong(request.client.host if request.client else "", time.monotonic())
        if not delay:
            return _back("wrong")
        if not self._held.locked():
            async with self._held:
                await asyncio.sleep(delay)
        return _back("wait")


async def _favicon(_request: Request) -> Response:
    return Response(theme.LOGO, media_type="image/svg+xml", headers={"Cache-Control": "max-age=86400"})


async def _token(request: Request) -> str:
    """Return what the form holds; nothing, where it is larger than any token."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM:
            return ""
    return _parsed(body).get("token", "").strip()


def _parsed(query: bytes) -> dict[str, str]:
    """Return the first value of each name, whatever bytes a client sends."""
    return {name: values[0] for name, values in parse_qs(query.decode("latin-1"), errors="replace").items()}


def _form(problem: str) -> str:
    return _FORM.format(title=theme.TITLE, css=theme.css(), logo=theme.LOGO, problem=escape(_PROBLEMS.get(problem, "")))


def _back(problem: str) -> Response:
    return RedirectResponse(f"/?problem={problem}", 303, {"Cache-Control": "no-store"})


def _is_foreign(connection: HTTPConnection) -> bool:
    """Return whether a browser says that another site, or another server of this host, has sent a request."""
    return connection.headers.get("sec-fetch-site", "none") not in ("same-origin", "none")


def _is_secure(request: Request) -> bool:
    return str(request.scope["scheme"]) == "https"
