"""Errors of the HTTP API as problem details (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from gateway.errors import (
    Crowded,
    MeasurementUnknown,
    ReplayImpossible,
    RequestRejected,
    StateUnavailable,
    StoreCrowded,
    StoreUnavailable,
)

MAX_REPORTED = 20
SHOWN = 80
MEDIA_TYPE = "application/problem+json"


def answer(status: int, detail: str, headers: dict[str, str] | None = None, **more: object) -> JSONResponse:
    """Return a problem document."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        **more,
    }
    return JSONResponse(body, status, headers, MEDIA_TYPE)


SCHEMA = {
    "title": "Problem",
    "description": "Problem document (RFC 9457)",
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
    },
}


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what OpenAPI says about answers with these statuses."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in statuses
    }


def _is_text(wrong: Sequence[Mapping[str, str]]) -> bool:
    try:
        "".join(text for one in wrong for text in one.values()).encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(value: object) -> str:
    """Return what was received, in short."""
    try:
        return str(value)[:SHOWN]
    except RecursionError:
        return "something nested too deeply"


def install(api: FastAPI) -> None:
    """Turn every error of this API into a problem document."""

    @api.exception_handler(HTTPException)
    async def http_error(_request: Request, error: HTTPException) -> JSONResponse:
        return answer(error.status_code, str(error.detail), dict(error.headers or {}))

    @api.exception_handler(RequestRejected)
    async def rejected(_request: Request, error: RequestRejected) -> JSONResponse:
        return answer(error.status, error.detail, error.headers, **error.members)

    @api.exception_handler(RequestValidationError)
    async def bad_request(_request: Request, error: RequestValidationError) -> JSONResponse:
        wrong = [
            {
                "where": ".".join(map(str, details["loc"]))[:SHOWN],
                "expected": details["msg"],
                "got": _shown(details.get("input")),
            }
            for details in error.errors()[:MAX_REPORTED]
        ]
        if not _is_text(wrong):
            return answer(400, "expected text in the body; it has a lone surrogate (\\ud800 to \\udfff)")
        detail = "; ".join(f"{one['where']}: {one['expected']}; got {one['got']}" for one in wrong)
        return answer(422, detail, errors=wrong)

    @api.exception_handler(MeasurementUnknown)
    async def unknown(_request: Request, error: MeasurementUnknown) -> JSONResponse:
        return answer(404, str(error), measurements=list(error.known))

    @api.exception_handler(ReplayImpossible)
    async def unreplayable(_request: Request, error: ReplayImpossible) -> JSONResponse:
        return answer(409, str(error))

    @api.exception_handler(Crowded)
    @api.exception_handler(StoreCrowded)
    async def crowded(_request: Request, error: Crowded | StoreCrowded) -> JSONResponse:
        return answer(429 if error.is_own else 503, str(error), {"Retry-After": "5"})

    @api.exception_handler(Exception)
    async def failed(_request: Request, _error: Exception) -> JSONResponse:
        return answer(500, "the gateway failed; its log says how. Please report it")

    @api.exception_handler(StoreUnavailable)
    @api.exception_handler(StateUnavailable)
    async def unavailable(_request: Request, error: Exception) -> JSONResponse:
        return answer(503, str(error), {"Retry-After": "5"})
