"""Reads everything back over the gateway's HTTP API: the ledger, the store, the dead letters."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

import httpx

from gateway.model import Counts
from tests.crash.fleet import is_poison
from tests.running import OPERATOR

SEQ = re.compile(r'"seq": ?(\d{6,7})|[ ,]seq=(\d{6,7})i')
"""Number of a message, in its payload or in the line that a store refused."""
FAILED = (httpx.HTTPError, json.JSONDecodeError, KeyError)
PAGE = 1000


@dataclass(frozen=True, slots=True)
class Found:
    """Content of a startup: how many rows of the store have each number, the numbers in its dead letters, its
    ledger."""

    stored: Counter[int]
    dead: set[int]
    ledger: Counts

    def lost(self, acknowledged: set[int]) -> set[int]:
        """Return the numbers that are nowhere, and those of poison that is not in the dead letters."""
        return {one for one in acknowledged if one not in self.dead and (is_poison(one) or one not in self.stored)}

    @property
    def duplicated(self) -> int:
        """Rows beyond the first of each number."""
        return sum(self.stored.values()) - len(self.stored)

    @property
    def misjudged(self) -> int:
        """Good readings in the dead letters, and poison in the store."""
        return sum(not is_poison(one) for one in self.dead) + sum(is_poison(one) for one in self.stored)


class Reader:
    """Client of one gateway, which may be down."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._http = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {OPERATOR}"}, timeout=10
        )

    async def close(self) -> None:
        await self._http.aclose()

    async def ledger(self, startup: str) -> Counts:
        """Return the ledger of a startup.

        Raises:
            httpx.HTTPError: the gateway does not answer.
        """
        found = (await self._get(f"/v1/startups/{startup}")).json()["ledger"]
        return Counts(**{one.name: found[one.name] for one in fields(Counts)})

    async def ready(self) -> dict[str, Any]:
        """Return `/readyz`; an empty object where the gateway does not answer."""
        try:
            found: dict[str, Any] = (await self._http.get("/readyz")).json()
        except FAILED:
            return {}
        return found

    async def everything(self, startup: str, start_ms: int) -> Found:
        """Read all of a startup back.

        Raises:
            httpx.HTTPError: the gateway does not answer.
        """
        ledger = await self.ledger(startup)
        return Found(await self._stored(startup, start_ms), await self._dead(startup), ledger)

    async def _stored(self, startup: str, start_ms: int) -> Counter[int]:
        times = (datetime.fromtimestamp(ms / 1000, UTC) for ms in (start_ms, start_ms + 86_400_000))
        start, stop = (f"{one:%Y-%m-%dT%H:%M:%SZ}" for one in times)
        asked = {"measurement": "climate", "start": start, "stop": stop, "format": "ndjson"}
        answer = await self._get(f"/v1/startups/{startup}/telemetry", asked)
        return Counter(json.loads(line)["fields"]["seq"] for line in answer.text.splitlines())

    async def _dead(self, startup: str) -> set[int]:
        numbers: set[int] = set()
        place = None
        while True:
            asked = {"limit": str(PAGE)} | ({"before": place} if place else {})
            page = (await self._get(f"/v1/startups/{startup}/rejections", asked)).json()
            for one in page["rejections"]:
                if match := SEQ.search(one["payload"]):
                    numbers.add(int(match[1] or match[2]))
            if not (place := page["next"]):
                return numbers

    async def _get(self, path: str, asked: dict[str, str] | None = None) -> httpx.Response:
        answer = await self._http.get(path, params=asked)
        answer.raise_for_status()
        return answer
