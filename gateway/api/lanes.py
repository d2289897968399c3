"""Lanes: an operator lets one go on that has stopped, because its store refuses most readings."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from gateway.api.access import CurrentServices, Operator

router = APIRouter()


class ReleaseRequest(BaseModel):
    """Startup whose lane may go on; its file may be gone already."""

    model_config = ConfigDict(extra="forbid")

    startup: Annotated[str, Field(max_length=31, pattern="^[a-z][a-z0-9-]*$")]


class Released(BaseModel):
    """Whether the lane had stopped, and goes on."""

    startup: str
    released: bool


@router.post(
    "/operator/lanes/release",
    summary="Let a stopped lane go on: what the store refuses of the readings that wait becomes dead letters",
)
async def release(wanted: ReleaseRequest, services: CurrentServices, _who: Operator) -> Released:
    return Released(startup=wanted.startup, released=await services.release(wanted.startup))
