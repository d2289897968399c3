"""A startup's own view: its rules and ledger, devices, and newest readings."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from functools import partial
from typing import Any

from fastapi import APIRouter, Response
from pydantic_core import to_json

from gateway.api.access import CurrentServices, PermittedStartup, ServedStartup
from gateway.api.history import SLICE
from gateway.api.limits import Limits
from gateway.api.streaming import StreamingResponse
from gateway.feeds.live_ring import reading_json
from gateway.model import Counts, Reading

router = APIRouter()


@router.get("/startups/{startup}", summary="The startup, its ledger and its topic rules")
async def about(startup: ServedStartup, services: CurrentServices) -> dict[str, Any]:
    balance = await services.limits.read(startup.slug, services.state.balance)
    return {
        "startup": startup.slug,
        "name": startup.name,
        "cohort": startup.cohort,
        "until": startup.until,
        "ledger": balance.get(startup.slug, Counts()).as_json(),
        "measurements": {
            name: {"topic": rule.template.text, "units": {field: r.unit for field, r in rule.fields.items()}}
            for name, rule in startup.topics.items()
        },
    }


@router.get("/startups/{startup}/devices", summary="Devices: last seen, counts, state")
async def devices(startup: ServedStartup, services: CurrentServices) -> Response:
    now_ns = time.time_ns()
    found = services.devices(startup.slug)

    def encode() -> bytes:
        listed = [device.as_json(now_ns, startup.topics) for device in found]
        return to_json({"startup": startup.slug, "devices": listed}) + b"\n"

    return Response(await services.limits.encode(encode), media_type="application/json")


@router.get("/startups/{startup}/latest", summary="The newest reading of every series")
async def latest(startup: PermittedStartup, services: CurrentServices) -> StreamingResponse:
    readings = await services.store.latest(startup.slug)
    return StreamingResponse(_latest(startup.slug, readings, services.limits), media_type="application/json")


async def _latest(startup: str, readings: list[Reading], limits: Limits) -> AsyncGenerator[bytes]:
    yield to_json({"startup": startup})[:-1] + b',"readings":['
    for start in range(0, len(readings), SLICE):
        yield (b"," if start else b"") + await limits.encode(partial(_encoded, readings[start : start + SLICE]))
    yield b"]}\n"


def _encoded(readings: list[Reading]) -> bytes:
    return b",".join([to_json(reading_json(reading)) for reading in readings])
