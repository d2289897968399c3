"""Dead letters: pages of them, and their replay."""

from __future__ import annotations

import asyncio
import re
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from gateway.api.access import CurrentServices, Operator, PermittedStartup
from gateway.api.services import Services
from gateway.errors import ReplayRefused, RequestRefused
from gateway.state.dead_letters import MAX_ID, NEWEST, Place, Totals
from gateway.timestamps import MAX_NS

MAX_REPLAY = 1000
router = APIRouter()


@router.get("/startups/{startup}/rejections", summary="Dead letters, the newest first")
async def rejections(
    startup: PermittedStartup,
    services: CurrentServices,
    before: Annotated[str | None, Query(description="`next` of the previous page")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    place = NEWEST if before is None else _place(before)
    found = await asyncio.to_thread(services.state.dead_letters, startup.slug, before=place, limit=limit)
    kept = (await asyncio.to_thread(services.state.totals)).get(startup.slug, Totals())
    return {
        "startup": startup.slug,
        "kept": kept.kept,
        "dropped": kept.dropped,
        "rejections": [one.as_json() for one in found],
        "next": "{}-{}".format(*found[-1].place) if len(found) == limit else None,
    }


def _place(text: str) -> Place:
    match = re.fullmatch(r"(\d{1,19})-(\d{1,19})", text, re.ASCII)
    if match is None or int(match[1]) > MAX_NS or int(match[2]) > MAX_ID:
        raise RequestRefused(422, f"before: expected `next` of the previous page; got {text[:40]!r}")
    return Place(int(match[1]), int(match[2]))


class ReplayRequest(BaseModel):
    """Dead letters to replay."""

    model_config = ConfigDict(extra="forbid")

    ids: Annotated[list[Annotated[int, Field(ge=0, le=MAX_ID)]], Field(min_length=1, max_length=MAX_REPLAY)]


@router.post("/startups/{startup}/rejections/replay", summary="Replay dead letters")
async def replay(startup: PermittedStartup, services: CurrentServices, wanted: ReplayRequest) -> dict[str, Any]:
    return await _replay(services, startup.slug, wanted.ids)


@router.post("/operator/rejections/replay", summary="Replay dead letters of any startup, or of none; for operators")
async def replay_any(services: CurrentServices, wanted: ReplayRequest, _who: Operator) -> dict[str, Any]:
    return await _replay(services, None, wanted.ids)


async def _replay(services: Services, startup: str | None, ids: list[int]) -> dict[str, Any]:
    results = []
    for ident in ids:
        dead_letter = await asyncio.to_thread(services.state.dead_letter, ident)
        if dead_letter is None or startup not in (None, dead_letter.rejection.startup):
            results.append({"id": ident, "result": "not found"})
            continue
        try:
            again = await services.replay(ident)
        except ReplayRefused as error:
            results.append({"id": ident, "result": "not found", "detail": str(error)})
            continue
        reasons = [reason.as_json() for reason in again]
        result = "rejected again" if reasons else "accepted"
        results.append({"id": ident, "result": result, **({"reasons": reasons} if reasons else {})})
    return {"results": results}
