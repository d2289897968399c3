"""HTTP application: the routes of every subject, and every error as a problem document."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from pydantic_core import to_json

import gateway
from gateway.api import docs_page, history, live, monitoring, problems, rejections, sequences, startups
from gateway.api.services import Services

ALWAYS = (400, 408, 413, 414, 429, 431, 500, 503)
"""Statuses with which the edge, or whatever is out of order, may answer any request."""


class _Api(FastAPI):
    def openapi(self) -> dict[str, Any]:
        """Return the schema, with that of problem documents."""
        schema = super().openapi()
        schema["components"]["schemas"]["Problem"] = problems.SCHEMA
        return schema


def _add_schema(api: FastAPI) -> None:
    """Serve the schema of the routes so far, as text that is made once."""
    text = to_json(api.openapi())

    async def schema(_request: Request) -> Response:
        return Response(text, media_type="application/json")

    api.add_route(docs_page.SCHEMA, schema, include_in_schema=False)


def create_api(services: Services) -> FastAPI:
    """Return the application, ready to serve."""
    api = _Api(title="Testbed Gateway", version=gateway.__version__, docs_url=None, redoc_url=None, openapi_url=None)
    api.state.services = services
    versioned = APIRouter(prefix="/v1")
    for subject in (startups, sequences, history, live, rejections, monitoring):
        versioned.include_router(subject.router)
    api.include_router(versioned, responses=problems.documented(401, 403, 404, 421, 422, *ALWAYS))
    api.include_router(monitoring.probes, responses=problems.documented(401, 403, *ALWAYS))
    _add_schema(api)
    docs_page.install(api)
    problems.install(api)
    return api
