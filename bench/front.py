"""`python -m bench.front SPEC`: the front that lets influxd 1.6.7 speak InfluxDB 2's API, as a process of its own."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from typing import cast

from bench import helper
from tests.servers import Influxd, InfluxV2Front


@dataclass(frozen=True)
class Engine:
    """Part of an influxd that the front needs."""

    url: str


async def serve() -> None:
    """Serve until the other side closes."""
    spec = helper.spec()
    engine = cast(Influxd, Engine(spec["engine"]))
    async with InfluxV2Front(engine, spec["buckets"]) as front:
        helper.say({"url": front.url, "org": front.org, "token": front.token})
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve())
