"""HTTP application: the routes of every subject, and every error as a problem document."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI

import gateway
from gateway.api import history, live, monitoring, problems, rejections, startups
from gateway.api.services import Services


def create_api(services: Services) -> FastAPI:
    """Return the application, ready to serve."""
    api = FastAPI(title="Testbed Gateway", version=gateway.__version__, docs_url="/docs", redoc_url=None)
    api.state.services = services
    versioned = APIRouter(prefix="/v1")
    for subject in (startups, history, live, rejections, monitoring):
        versioned.include_router(subject.router)
    api.include_router(versioned)
    api.include_router(monitoring.probes)
    problems.install(api)
    return api
