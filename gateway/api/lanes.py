"""Lanes: an operator lets one go on that has stopped, because its store refuses most readings."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from fastapi import Path as Parameter
from pydantic import BaseModel

from gateway.api.access import CurrentServices, Operator

router = APIRouter()


class Released(BaseModel):
    """Whether the lane had stopped, and goes on."""

    startup: str
    released: bool


@router.post(
    "/operator/lanes/{startup}/release",
    summary="Let a stopped lane go on: what the store refuses of the readings that wait becomes dead letters",
)
async def release(
    startup: Annotated[str, Parameter(max_length=31, pattern="^[a-z][a-z0-9-]*$")],
    services: CurrentServices,
    _who: Operator,
) -> Released:
    return Released(startup=startup, released=await services.release(startup))
