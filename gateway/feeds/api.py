"""The HTTP API: routes and nothing else. Who may ask is decided once, in `_startup`."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Header, Query, Request, Response, WebSocket
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field

import gateway
from gateway import ledger
from gateway.config import Startup
from gateway.dead_letters import MAX_ID, NEWEST, Place, Totals
from gateway.errors import Unreplayable
from gateway.feeds import history, problems, sse
from gateway.feeds.auth import Principal
from gateway.feeds.live import reading_json
from gateway.feeds.problems import ProblemError
from gateway.feeds.services import Services
from gateway.metrics import exposition
from gateway.model import UNROUTED
from gateway.timestamps import MAX_NS

MAX_REPLAY = 1000
MAX_DIGITS = 20

_bearer = HTTPBearer(auto_error=False, description="the startup's API token, or an operator's")
router = APIRouter(prefix="/v1")


def create_api(services: Services) -> FastAPI:
    """The application, ready to serve."""
    api = FastAPI(title="Testbed Gateway", version=gateway.__version__, docs_url="/docs", redoc_url=None)
    api.state.services = services
    api.include_router(router)
    _add_probes(api, services)
    problems.install(api)
    return api


# ------------------------------------------------------------------ who asks


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


def _principal(request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> Principal:
    principal = _services(request).tokens.who(given.credentials) if given else None
    if principal is None:
        got = "an unknown token" if given else "none"
        raise ProblemError(
            401,
            f"expected the header `Authorization: Bearer TOKEN` with a token of this test bed; got {got}",
            {"WWW-Authenticate": "Bearer"},
        )
    return principal


def _allowed(services: Services, principal: Principal, startup: str) -> Startup:
    if not principal.may_see(startup):
        raise ProblemError(403, f"this token is {principal.startup}'s; it may not see {startup!r}")
    found = services.config.by_slug.get(startup)
    if found is None:
        known = ", ".join(services.config.by_slug)
        raise ProblemError(404, f"there is no startup {startup!r}; there are: {known}")
    if found.has_ended(time.time_ns()) and not principal.is_operator:
        raise ProblemError(403, f"the programme of {startup} ended on {found.until}; ask the operators for its data")
    return found


def _startup(request: Request, startup: str, principal: Annotated[Principal, Depends(_principal)]) -> Startup:
    return _allowed(_services(request), principal, startup)


def _operator(principal: Annotated[Principal, Depends(_principal)]) -> Principal:
    if not principal.is_operator:
        raise ProblemError(403, f"this token is {principal.startup}'s; an operator's is needed")
    return principal


Parts = Annotated[Services, Depends(_services)]
Asked = Annotated[Startup, Depends(_startup)]
After = Annotated[str | None, Header(alias="Last-Event-ID")]


# ------------------------------------------------------------------ a startup's own view


@router.get("/startups/{startup}", summary="The startup, its ledger and its topic rules")
async def about(startup: Asked, services: Parts) -> dict[str, Any]:
    balance = await asyncio.to_thread(services.books.balance)
    return {
        "startup": startup.slug,
        "name": startup.name,
        "cohort": startup.cohort,
        "until": startup.until,
        "ledger": balance.get(startup.slug, ledger.Counts()).as_json(),
        "measurements": {
            name: {"topic": rule.template.text, "units": {field: r.unit for field, r in rule.fields.items()}}
            for name, rule in startup.topics.items()
        },
    }


@router.get("/startups/{startup}/devices", summary="Devices: last seen, counts, state")
async def devices(startup: Asked, services: Parts) -> dict[str, Any]:
    now_ns = time.time_ns()
    found = services.devices(startup.slug)
    return {"startup": startup.slug, "devices": [device.as_json(now_ns) for device in found]}


@router.get("/startups/{startup}/latest", summary="The newest reading of every series")
async def latest(startup: Asked, services: Parts) -> dict[str, Any]:
    readings = await services.store.latest(startup.slug)
    return {"startup": startup.slug, "readings": [reading_json(reading) for reading in readings]}


@router.get("/startups/{startup}/telemetry", summary="History, downsampled if asked, as JSON, CSV or NDJSON")
async def telemetry(
    startup: Asked, services: Parts, parameters: Annotated[history.HistoryParameters, Query()]
) -> StreamingResponse:
    query = parameters.query()
    await history.known_measurement(startup, services.store, query.measurement)
    body = await history.stream(startup, services.store, parameters, query)
    return StreamingResponse(body, media_type=history.MEDIA_TYPES[parameters.format])


@router.get("/startups/{startup}/live", summary="Live readings and rejections as Server-Sent Events")
async def live(
    request: Request,
    startup: Asked,
    services: Parts,
    last_event_id: After = None,
    measurement: str | None = None,
    device: str | None = None,
) -> StreamingResponse:
    wanted = sse.Wanted(measurement, device)
    token = request.headers["authorization"].partition(" ")[2].strip()
    may = _still_allowed(services, token, startup.slug)
    body = sse.sse(services.live.feed(startup.slug), wanted, _event_id(last_event_id), may)
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(body, media_type="text/event-stream", headers=headers)


@router.websocket("/startups/{startup}/live/ws")
async def live_websocket(
    socket: WebSocket,
    startup: str,
    after: str | None = None,
    measurement: str | None = None,
    device: str | None = None,
) -> None:
    """The same events over a WebSocket. The token comes in the Authorization header, or, from a browser, as the
    second subprotocol: `new WebSocket(url, ["bearer", token])`."""
    services: Services = socket.app.state.services
    token = _websocket_token(socket)
    principal = services.tokens.who(token)
    if principal is None:
        raise ProblemError(
            401,
            "expected a token of this test bed in the Authorization header or as the second subprotocol after `bearer`",
        )
    _allowed(services, principal, startup)
    place = _event_id(after)
    await socket.accept(subprotocol="bearer" if "bearer" in _offered(socket) else None)
    may = _still_allowed(services, token, startup)
    await sse.websocket(socket, services.live.feed(startup), sse.Wanted(measurement, device), place, may)


def _still_allowed(services: Services, token: str, startup: str) -> Callable[[], bool]:
    """Whether a token that could open a live feed may go on: a reload can end it, and so can the startup's last day."""
    known = services.tokens
    principal = known.who(token)

    def may() -> bool:
        nonlocal known, principal
        if services.tokens is not known:
            known = services.tokens
            principal = known.who(token)
        try:
            return principal is not None and bool(_allowed(services, principal, startup))
        except ProblemError:
            return False

    return may


def _websocket_token(socket: WebSocket) -> str:
    kind, _, token = socket.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return token
    offered = _offered(socket)
    return offered[1] if len(offered) == 2 and offered[0] == "bearer" else ""


def _offered(socket: WebSocket) -> list[str]:
    """The subprotocols that the client offers; the server may take one of these and no other."""
    return [part.strip() for part in socket.headers.get("sec-websocket-protocol", "").split(",")]


def _event_id(text: str | None) -> int | None:
    if not text:
        return None
    if not text.isascii() or not text.isdecimal() or len(text) > MAX_DIGITS:
        raise ProblemError(422, f"Last-Event-ID: expected the id of an event, a whole number; got {text[:40]!r}")
    return int(text)


# ------------------------------------------------------------------ rejections


@router.get("/startups/{startup}/rejections", summary="Dead letters, the newest first")
async def rejections(
    startup: Asked,
    services: Parts,
    before: Annotated[str | None, Query(description="the `next` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    place = NEWEST if before is None else _place(before)
    letters = await asyncio.to_thread(services.books.letters, startup.slug, before=place, limit=limit)
    kept = (await asyncio.to_thread(services.books.totals)).get(startup.slug, Totals())
    return {
        "startup": startup.slug,
        "kept": kept.letters,
        "dropped": kept.dropped,
        "rejections": [letter.as_json() for letter in letters],
        "next": "{}-{}".format(*letters[-1].place) if len(letters) == limit else None,
    }


def _place(text: str) -> Place:
    match = re.fullmatch(r"(\d{1,19})-(\d{1,19})", text, re.ASCII)
    if match is None or int(match[1]) > MAX_NS or int(match[2]) > MAX_ID:
        raise ProblemError(422, f"before: expected the `next` of the page before; got {text[:40]!r}")
    return Place(int(match[1]), int(match[2]))


class ReplayRequest(BaseModel):
    """Which dead letters to put through again."""

    model_config = ConfigDict(extra="forbid")

    ids: Annotated[list[Annotated[int, Field(ge=0, le=MAX_ID)]], Field(min_length=1, max_length=MAX_REPLAY)]


@router.post("/startups/{startup}/rejections/replay", summary="Put dead letters through again")
async def replay(startup: Asked, services: Parts, wanted: ReplayRequest) -> dict[str, Any]:
    return await _replay(services, startup.slug, wanted.ids)


@router.post("/operator/rejections/replay", summary="The same for operators: any startup's, and messages of none")
async def replay_any(
    services: Parts, wanted: ReplayRequest, _who: Annotated[Principal, Depends(_operator)]
) -> dict[str, Any]:
    return await _replay(services, None, wanted.ids)


async def _replay(services: Services, startup: str | None, ids: list[int]) -> dict[str, Any]:
    results = []
    for ident in ids:
        letter = await asyncio.to_thread(services.books.letter, ident)
        if letter is None or startup not in (None, letter.rejection.startup):
            results.append({"id": ident, "result": "not found"})
            continue
        try:
            again = await services.replay(ident)
        except Unreplayable as error:
            results.append({"id": ident, "result": "not found", "detail": str(error)})
            continue
        reasons = [reason.as_json() for reason in again]
        result = "rejected again" if reasons else "accepted"
        results.append({"id": ident, "result": result, **({"reasons": reasons} if reasons else {})})
    return {"results": results}


# ------------------------------------------------------------------ operators


@router.get("/operator/status", summary="Health, ledger and dead letters of all startups")
async def status(services: Parts, _who: Annotated[Principal, Depends(_operator)]) -> dict[str, Any]:
    balance = await asyncio.to_thread(services.books.balance)
    totals = await asyncio.to_thread(services.books.totals)
    return {
        "health": services.health().as_json(),
        "total": ledger.total(balance).as_json(),
        "startups": {
            slug: {
                "ledger": balance.get(slug, ledger.Counts()).as_json(),
                "dead_letters": totals.get(slug, Totals()).letters,
                "devices": len(services.devices(slug)),
            }
            for slug in [*services.config.by_slug, UNROUTED]
        },
    }


def _add_probes(api: FastAPI, services: Services) -> None:
    @api.get("/healthz", summary="The process runs", tags=["probes"])
    async def healthz() -> dict[str, bool]:
        return {"ok": True}

    @api.get("/readyz", summary="Messages are taken in, and why not", tags=["probes"])
    async def readyz() -> JSONResponse:
        health = services.health()
        return JSONResponse(health.summary(), 200 if health.is_ready else 503)

    @api.get("/metrics", summary="Prometheus metrics; with an operator's token", tags=["probes"])
    async def metrics(_who: Annotated[Principal, Depends(_operator)]) -> Response:
        balance = await asyncio.to_thread(services.books.balance)
        parts = {f"{part.name}_ok": float(not part.problem) for part in services.health().parts}
        text = await asyncio.to_thread(exposition, await services.measured(), balance, parts)
        return Response(text, media_type="text/plain; version=0.0.4")
