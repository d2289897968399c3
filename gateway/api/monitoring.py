"""Monitoring: probes and metrics for programs, the status for operators."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from gateway.api.access import Anybody, CurrentServices, Operator
from gateway.health import Part
from gateway.metrics import exposition
from gateway.model import UNROUTED, Counts
from gateway.state.dead_letters import Totals

router = APIRouter()
probes = APIRouter(tags=["probes"])


@router.get("/operator/status", summary="Health, ledger and dead letters of all startups (of this host)")
async def status(services: CurrentServices, _who: Operator) -> dict[str, Any]:
    balance = await asyncio.to_thread(services.state.balance)
    totals = await asyncio.to_thread(services.state.totals)
    config = services.config
    here = [one.slug for one in config.startups if config.serves(one) or one.slug in balance]
    return {
        "host": config.host,
        "health": services.health().as_json(),
        "total": Counts.total(balance).as_json(),
        "startups": {
            slug: {
                "ledger": balance.get(slug, Counts()).as_json(),
                "dead_letters": totals.get(slug, Totals()).kept,
                "devices": len(services.devices(slug)),
            }
            for slug in [*here, UNROUTED]
        },
    }


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
async def metrics(services: CurrentServices, _who: Operator) -> Response:
    balance = await asyncio.to_thread(services.state.balance)
    health = services.health()
    parts = {f"{part.name}_ok": float(not part.problem) for part in health.needed}
    startups = {"session_ok": _working(health.sessions), "store_ok": _working(health.stores)}
    text = await asyncio.to_thread(exposition, await services.measured(), balance, parts, startups)
    return Response(text, media_type="text/plain; version=0.0.4")


def _working(parts: Mapping[str, Part]) -> dict[str, float]:
    return {startup: float(not part.problem) for startup, part in parts.items()}
