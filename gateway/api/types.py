"""Types of fields: what is on disk of them, and how an operator has one forgotten."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from gateway.api.access import CurrentServices, Operator, ServedStartup, allowed, served_here
from gateway.state.field_types import by_field

router = APIRouter()
Text = Annotated[str, Field(max_length=100)]


@router.get("/startups/{startup}/types", summary="The type of each field, and since when")
async def types(startup: ServedStartup, services: CurrentServices) -> dict[str, Any]:
    rows = await services.limits.read(startup.slug, partial(services.state.types, startup.slug))
    found = sorted(by_field(rows).items())
    return {"startup": startup.slug, "types": [row.as_json() for _, row in found]}


class ForgetRequest(BaseModel):
    """Field whose type is to be forgotten; without it, those of all fields of the measurement."""

    model_config = ConfigDict(extra="forbid")

    startup: Text
    measurement: Text
    field: Text = ""


@router.post("/operator/types/forget", summary="Forget the type of a field; for operators")
async def forget(services: CurrentServices, wanted: ForgetRequest, who: Operator) -> dict[str, int]:
    served_here(services, allowed(services, who, wanted.startup))
    return {"forgotten": await services.forget_type(wanted.startup, wanted.measurement, wanted.field)}
