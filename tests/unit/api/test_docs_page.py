"""The page at /docs, which tries out the HTTP API."""

from __future__ import annotations

import re
from typing import Any

import httpx

from gateway.api.routes import create_api

SERVICES: Any = None  # the page needs none


async def test_docs_page_needs_no_other_host() -> None:
    """A test bed may have no internet: the page names no other host, and the gateway serves every file it loads."""
    transport = httpx.ASGITransport(create_api(SERVICES))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as browser:
        page = await browser.get("/docs")
        assert page.status_code == 200
        assert "//" not in re.sub(r"^\s*//.*|<!--.*?-->", "", page.text, flags=re.MULTILINE)
        loaded = re.findall(r"""(?:src|href|url)(?:=|: )['"]([^'"]+)['"]""", page.text)
        assert {path.rpartition(".")[2] for path in loaded} == {"js", "css", "png", "json"}
        for path in loaded:
            assert (await browser.get(path)).status_code == 200, path
