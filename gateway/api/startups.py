"""A startup's own view: its rules and ledger, devices, and newest readings."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from functools import partial
from typing import Any

from fastapi import APIRouter
from pydantic_core import to_json

from gateway.api.access import CurrentServices, PermittedStartup, ServedStartup
from gateway.api.history import SLICE
from gateway.api.streaming import StreamingResponse, begun
from gateway.computing import Computing
from gateway.config import Startup
from gateway.feeds.live_ring import reading_json
from gateway.model import Counts, Reading
from gateway.state.devices import Device

router = APIRouter()


@router.get("/startups/{startup}", summary="The startup, its ledger and its topic rules")
async def about(startup: ServedStartup, services: CurrentServices) -> dict[str, Any]:
    balance = await services.limits.read(startup.slug, partial(services.state.balance, startup.slug))
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
async def devices(startup: ServedStartup, services: CurrentServices) -> StreamingResponse:
    found = services.devices(startup.slug)
    body = _devices(startup, found, time.time_ns(), services.limits.computing)
    return StreamingResponse(body, media_type="application/json")


async def _devices(startup: Startup, found: list[Device], now_ns: int, computing: Computing) -> AsyncGenerator[bytes]:
    def encoded(start: int) -> bytes:
        return _joined(device.as_json(now_ns, startup.topics) for device in found[start : start + SLICE])

    yield to_json({"startup": startup.slug})[:-1] + b',"devices":['
    for start in range(0, len(found), SLICE):
        yield (b"," if start else b"") + await computing.run(startup.slug, partial(encoded, start))
    yield b"]}\n"


@router.get("/startups/{startup}/latest", summary="The newest reading of every series")
async def latest(startup: PermittedStartup, services: CurrentServices) -> StreamingResponse:
    chunks = await begun(services.store.latest(startup.slug))
    return StreamingResponse(_latest(startup.slug, chunks, services.limits.computing), media_type="application/json")


async def _latest(startup: str, chunks: AsyncGenerator[list[Reading]], computing: Computing) -> AsyncGenerator[bytes]:
    yield to_json({"startup": startup})[:-1] + b',"readings":['
    is_first = True
    async with aclosing(chunks):
        async for chunk in chunks:
            if not chunk:  # there is nothing of a measurement whose points were deleted
                continue
            piece = await computing.run(startup, partial(_joined, map(reading_json, chunk)))
            yield piece if is_first else b"," + piece
            is_first = False
    yield b"]}\n"


def _joined(several: Iterable[Mapping[str, object]]) -> bytes:
    return b",".join([to_json(one) for one in several])
