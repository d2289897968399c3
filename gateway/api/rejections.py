"""Dead letters: pages of them, and their replay."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi import Path as Parameter
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_json

from gateway.api.access import CurrentServices, KeptStartup, Operator
from gateway.api.limits import WAIT
from gateway.api.services import Services
from gateway.api.streaming import StreamingResponse, in_pieces
from gateway.errors import Crowded, ReplayImpossible, RequestRejected, StateUnavailable
from gateway.state.dead_letters import LISTED_PAYLOAD, MAX_ID, NEWEST, DeadLetter, Page, Place, Totals
from gateway.timestamps import MAX_NS

MAX_REPLAY = 1000
Ident = Annotated[int, Parameter(ge=0, le=MAX_ID)]
router = APIRouter()


@router.get(
    "/startups/{startup}/rejections",
    summary="Dead letters, the newest first, each with the beginning of its payload",
)
async def rejections(
    startup: KeptStartup,
    services: CurrentServices,
    before: Annotated[str | None, Query(description="`next` of the previous page")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="maximum number; a page of large ones has fewer")] = 100,
) -> StreamingResponse:
    place = NEWEST if before is None else _place(before)

    def read() -> list[bytes]:
        page = services.state.dead_letters(startup.slug, before=place, limit=limit)
        totals = services.state.totals(startup.slug).get(startup.slug, Totals())
        return list(_pieces(startup.slug, totals, page))

    pieces = await services.limits.compute(startup.slug, read)
    return StreamingResponse(in_pieces(pieces), media_type="application/json")


def _pieces(startup: str, totals: Totals, page: Page) -> Iterator[bytes]:
    head = {"startup": startup, "kept": totals.kept, "dropped": totals.dropped}
    yield to_json(head)[:-1] + b',"rejections":['
    for number, one in enumerate(page.letters):
        yield (b"," if number else b"") + to_json(one.as_json())
    following = None if page.is_last else "{}-{}".format(*page.letters[-1].place)
    yield b'],"next":%s}\n' % to_json(following)


@router.get("/startups/{startup}/rejections/{ident}", summary="A dead letter, with the beginning of its payload")
async def rejection(startup: KeptStartup, services: CurrentServices, ident: Ident) -> Response:
    found = await _find(services, startup.slug, ident)

    def encode() -> bytes:
        shown = replace(found, rejection=found.rejection.shortened(LISTED_PAYLOAD))
        return to_json(shown.as_json()) + b"\n"

    return Response(await services.limits.computing.run(startup.slug, encode), media_type="application/json")


@router.get(
    "/startups/{startup}/rejections/{ident}/payload",
    summary="The payload of a dead letter as it arrived",
)
async def payload(startup: KeptStartup, services: CurrentServices, ident: Ident) -> StreamingResponse:
    found = await _find(services, startup.slug, ident)
    headers = {
        "Content-Length": str(found.kept),
        "Content-Disposition": f'attachment; filename="rejection-{ident}.bin"',
        "X-Content-Type-Options": "nosniff",
    }
    body = in_pieces([found.rejection.payload])
    return StreamingResponse(body, media_type="application/octet-stream", headers=headers)


async def _find(services: Services, startup: str, ident: int) -> DeadLetter:
    found = await services.limits.compute(startup, lambda: services.state.dead_letter(ident))
    if found is None or found.rejection.startup != startup:
        raise RequestRejected(404, f"{startup} has no dead letter {ident}: it was replayed, or dropped for newer ones")
    return found


def _place(text: str) -> Place:
    match = re.fullmatch(r"(\d{1,19})-(\d{1,19})", text, re.ASCII)
    if match is None or int(match[1]) > MAX_NS or int(match[2]) > MAX_ID:
        raise RequestRejected(422, f"before: expected `next` of the previous page; got {text[:40]!r}")
    return Place(int(match[1]), int(match[2]))


class ReplayRequest(BaseModel):
    """Dead letters to replay."""

    model_config = ConfigDict(extra="forbid")

    ids: Annotated[list[Annotated[int, Field(ge=0, le=MAX_ID)]], Field(min_length=1, max_length=MAX_REPLAY)]


@router.post("/startups/{startup}/rejections/replay", summary="Replay dead letters")
async def replay(startup: KeptStartup, services: CurrentServices, wanted: ReplayRequest) -> StreamingResponse:
    return await _replayed(services, startup.slug, wanted.ids)


@router.post(
    "/operator/rejections/replay",
    summary="Replay dead letters of any startup, or of none; for operators",
)
async def replay_any(services: CurrentServices, wanted: ReplayRequest, _who: Operator) -> StreamingResponse:
    return await _replayed(services, None, wanted.ids)


async def _replayed(services: Services, startup: str | None, ids: list[int]) -> StreamingResponse:
    """Answer with the results as they come. The place is taken before the answer begins: it may be rejected."""
    held = AsyncExitStack()
    await held.enter_async_context(services.limits.replays.place_within(startup, WAIT))
    return StreamingResponse(_results(services, startup, ids), media_type="application/json", held=held)


async def _results(services: Services, startup: str | None, ids: list[int]) -> AsyncGenerator[bytes]:
    yield b'{"results":['
    for number, ident in enumerate(ids):
        result = await _replay(services, startup, ident)
        yield (b"," if number else b"") + to_json(result)
    yield b"]}\n"


async def _replay(services: Services, startup: str | None, ident: int) -> dict[str, Any]:
    try:
        of = await services.limits.read(startup or "", lambda: services.state.startup_of(ident))
        if of is None or startup not in (None, of):
            return {"id": ident, "result": "not found"}
        # A client that leaves must not interrupt it between its commit and what follows.
        again = await asyncio.shield(asyncio.ensure_future(services.replay(ident)))
    except (ReplayImpossible, Crowded, StateUnavailable) as error:
        return {"id": ident, "result": "not replayed", "detail": str(error)}
    if not again:
        return {"id": ident, "result": "accepted"}
    return {"id": ident, "result": "rejected again", "reasons": [reason.as_json() for reason in again]}
