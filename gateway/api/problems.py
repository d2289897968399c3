"""Errors of the HTTP API as problem details (RFC 9457)."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from gateway.errors import (
    Crowded,
    MeasurementUnknown,
    ReplayRefused,
    RequestRefused,
    StateUnavailable,
    StoreCrowded,
    StoreUnavailable,
)

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


def install(api: FastAPI) -> None:
    """Turn every error of this API into a problem document."""

    @api.exception_handler(HTTPException)
    async def http_error(_request: Request, error: HTTPException) -> JSONResponse:
        return answer(error.status_code, str(error.detail), dict(error.headers or {}))

    @api.exception_handler(RequestRefused)
    async def refused(_request: Request, error: RequestRefused) -> JSONResponse:
        return answer(error.status, error.detail, error.headers)

    @api.exception_handler(RequestValidationError)
    async def bad_request(_request: Request, error: RequestValidationError) -> JSONResponse:
        wrong = [
            {
                "where": ".".join(map(str, details["loc"])),
                "expected": details["msg"],
                "got": str(details["input"])[:80],
            }
            for details in error.errors()
        ]
        detail = "; ".join(f"{one['where']}: {one['expected']}; got {one['got']}" for one in wrong)
        return answer(422, detail, errors=wrong)

    @api.exception_handler(MeasurementUnknown)
    async def unknown(_request: Request, error: MeasurementUnknown) -> JSONResponse:
        return answer(404, str(error), measurements=list(error.known))

    @api.exception_handler(ReplayRefused)
    async def unreplayable(_request: Request, error: ReplayRefused) -> JSONResponse:
        return answer(409, str(error))

    @api.exception_handler(Crowded)
    @api.exception_handler(StoreCrowded)
    async def crowded(_request: Request, error: Crowded | StoreCrowded) -> JSONResponse:
        return answer(429 if error.is_own else 503, str(error), {"Retry-After": "5"})

    @api.exception_handler(StoreUnavailable)
    @api.exception_handler(StateUnavailable)
    async def unavailable(_request: Request, error: Exception) -> JSONResponse:
        return answer(503, str(error), {"Retry-After": "5"})
