"""A startup's own view: its rules and ledger, devices, and newest readings."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter

from gateway.api.access import CurrentServices, PermittedStartup
from gateway.feeds.live_ring import reading_json
from gateway.model import Counts

router = APIRouter()


@router.get("/startups/{startup}", summary="The startup, its ledger and its topic rules")
async def about(startup: PermittedStartup, services: CurrentServices) -> dict[str, Any]:
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
async def devices(startup: PermittedStartup, services: CurrentServices) -> dict[str, Any]:
    now_ns = time.time_ns()
    found = services.devices(startup.slug)
    return {"startup": startup.slug, "devices": [device.as_json(now_ns, startup.topics) for device in found]}


@router.get("/startups/{startup}/latest", summary="The newest reading of every series")
async def latest(startup: PermittedStartup, services: CurrentServices) -> dict[str, Any]:
    readings = await services.store.latest(startup.slug)
    return {"startup": startup.slug, "readings": [reading_json(reading) for reading in readings]}
