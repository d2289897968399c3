"""Monitoring: probes and metrics for programs, the status for operators."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from pydantic_core import to_json

from gateway.api.access import Anybody, CurrentServices, Operator
from gateway.api.services import Services
from gateway.api.streaming import StreamingResponse
from gateway.computing import Computing
from gateway.health import Part
from gateway.metrics import exposition
from gateway.model import UNROUTED, Counts
from gateway.state.dead_letters import Totals

OPERATORS = ""
"""Owner of the places and turns that the requests of operators take."""
SLICE = 50
"""Startups that are looked at before others have their turns."""

router = APIRouter()
probes = APIRouter(tags=["probes"])


@router.get("/operator/status", summary="Health, ledger and dead letters of all startups (of this host)")
async def status(services: CurrentServices, _who: Operator) -> Response:
    async with services.limits.monitoring:
        return await _status(services)


async def _status(services: Services) -> Response:
    balance = await services.limits.computing.run(OPERATORS, services.state.balance)
    totals = await services.limits.computing.run(OPERATORS, services.state.totals)
    config, health = services.config, services.health()
    slugs = [*(one.slug for one in config.startups if config.serves(one) or one.slug in balance), UNROUTED]
    devices: dict[str, int] = {}
    for number, slug in enumerate(slugs):
        devices[slug] = len(services.devices(slug))
        if number % SLICE == SLICE - 1:
            await asyncio.sleep(0)

    def encode() -> bytes:
        startups = {
            slug: {
                "ledger": balance.get(slug, Counts()).as_json(),
                "dead_letters": totals.get(slug, Totals()).kept,
                "devices": devices[slug],
            }
            for slug in slugs
        }
        whole = {"host": config.host, "health": health.as_json(), "total": Counts.total(balance).as_json()}
        return to_json(whole | {"startups": startups})

    return Response(await services.limits.computing.run(OPERATORS, encode), media_type="application/json")


@probes.get("/healthz", summary="Whether the process runs")
async def healthz() -> dict[str, bool]:
    return {"ok": True}


@probes.get(
    "/readyz",
    summary="Whether messages are accepted; with an operator's token, also why not",
    responses={503: {"description": "Messages are not accepted now"}},
)
async def readyz(services: CurrentServices, who: Anybody) -> JSONResponse:
    health = services.health()
    is_operator = who is not None and who.is_operator
    body = health.summary() if is_operator else {"ready": health.is_ready}
    return JSONResponse(body, 200 if health.is_ready else 503)


@probes.get("/metrics", summary="Prometheus metrics; requires an operator's token")
async def metrics(services: CurrentServices, _who: Operator) -> StreamingResponse:
    async with services.limits.monitoring:
        balance = await services.limits.computing.run(OPERATORS, services.state.balance)
        measured = await services.measured()
    health = services.health()
    parts = {f"{part.name}_ok": float(not part.problem) for part in health.needed}
    startups = {"session_ok": _working(health.sessions), "store_ok": _working(health.stores)}
    text = exposition(measured, balance, parts, startups)
    return StreamingResponse(_pieces(text, services.limits.computing), media_type="text/plain; version=0.0.4")


async def _pieces(text: Iterator[bytes], computing: Computing) -> AsyncGenerator[bytes]:
    while (piece := await computing.run(OPERATORS, lambda: next(text, None))) is not None:
        yield piece


def _working(parts: Mapping[str, Part]) -> dict[str, float]:
    return {startup: float(not part.problem) for startup, part in parts.items()}
