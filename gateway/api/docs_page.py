"""Page that tries out the HTTP API: Swagger UI at /docs.

FastAPI's own page loads Swagger UI from other hosts, and is blank in a test bed without internet. This one loads it
from the gateway, which has it from the package fastapi-offline.
"""

from __future__ import annotations

from pathlib import Path

import fastapi_offline
from fastapi import FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

PAGE = "/docs"
FILES = f"{PAGE}/files"
SCHEMA = "/openapi.json"

# Made here, not by `install`: it looks at the disk, and `install` runs in the event loop.
_FILES = StaticFiles(directory=Path(fastapi_offline.__file__).with_name("static"))


def install(api: FastAPI) -> None:
    """Add the page to the application, which must have none of its own."""

    async def page(request: Request) -> HTMLResponse:
        root = request.scope.get("root_path", "")
        return get_swagger_ui_html(
            title=api.title,
            openapi_url=f"{root}{SCHEMA}",
            swagger_js_url=f"{root}{FILES}/swagger-ui-bundle.js",
            swagger_css_url=f"{root}{FILES}/swagger-ui.css",
            swagger_favicon_url=f"{root}{FILES}/favicon.png",
        )

    api.mount(FILES, _FILES)
    api.add_api_route(PAGE, page, include_in_schema=False)
