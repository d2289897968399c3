"""HTTP application of a gateway, `python -m bench.web SPEC`, over a state directory that is as full as quotas allow.

Nothing arrives over MQTT: whatever holds its event loop is a request. The answer to {"publish": n} comes when n rounds
of readings are on the live feed, that to {} has the longest time, in ms, that the loop did not turn since the last
question.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prometheus_client.core import Metric

from bench import helper
from bench.loop_watch import LoopWatch
from gateway.api.auth import Tokens
from gateway.api.server import HttpServer
from gateway.api.services import Services
from gateway.config.models import Config, DeadLetterSettings, Http, Settings
from gateway.config.startup_file import Startup
from gateway.feeds.live_ring import LiveFeeds
from gateway.health import Health, Part
from gateway.metrics import Metrics
from gateway.model import Code, Counts, Reading, Reason, Rejection
from gateway.runtime.gc_tuning import tune_interpreter
from gateway.runtime.http_application import make_application
from gateway.state import dead_letters, ledger
from gateway.state.database import FILE_NAME, Database
from gateway.state.devices import Device
from gateway.state.reader import StateReader
from gateway.stores.build import make_store

SLUG = "lab-000"
STARTUPS = 1_000
DEVICES = 10_000
SERIES = 5_000
READINGS = 100_000
LETTERS = 1_000
EVENTS = 2_000
ROUND = 200
PUBLISH_EVERY = 0.01


def main() -> None:
    asked = helper.spec()
    with tempfile.TemporaryDirectory(prefix="gateway-bench-web-") as directory:
        asyncio.run(_serve(Path(directory), asked))


async def _serve(directory: Path, asked: dict[str, Any]) -> None:
    config = _config(directory, asked["port"])
    store = make_store(config)
    await store.open()
    for lines in _lines():
        await store.write(SLUG, lines)
    await _fill(Database(directory / FILE_NAME))
    live = LiveFeeds(EVENTS)
    live.accepted({SLUG: _readings(EVENTS)})
    metrics, devices = Metrics(), _devices()
    reasons = (Reason(Code.MISSING, "/t", "a number", "nothing"),)
    metrics.rejected([Rejection(slug, "d", "t", b"", 1, reasons) for slug in config.by_slug])
    health = Health((Part("broker"),), {slug: Part("store") for slug in config.by_slug})

    async def measured() -> Sequence[Metric]:
        return await asyncio.to_thread(metrics.families)

    async def not_asked(*_arguments: str) -> Any:
        raise NotImplementedError

    async def replay(_ident: int) -> Sequence[Reason]:
        return ()

    services = Services(
        config=config,
        tokens=Tokens({SLUG: asked["token"]}, asked["operator"]),
        store=store,
        live=live,
        state=StateReader(directory),
        devices=lambda slug: list(devices) if slug == SLUG else [],
        health=lambda: health,
        measured=measured,
        replay=replay,
        forget_type=not_asked,
        release=not_asked,
    )
    application = await asyncio.to_thread(make_application, services)
    tune_interpreter()
    with HttpServer(config.settings.http) as server:
        serving = asyncio.create_task(server.run(application))
        await _answer(live)
        server.stop()
        await serving
    await store.close()


async def _answer(live: LiveFeeds) -> None:
    helper.say({"ready": True})
    questions = helper.asked()
    while True:
        async with LoopWatch() as watch:
            question = await asyncio.to_thread(next, questions, None)
            for _ in range((question or {}).get("publish", 0)):
                live.accepted({SLUG: _readings(ROUND)})
                await asyncio.sleep(PUBLISH_EVERY)
        if question is None:
            return
        helper.say({"held_ms": watch.longest * 1e3})


def _config(directory: Path, port: int) -> Config:
    fields = {"t": {"type": "float"}, "note": {"type": "string", "required": False}}

    def startup(slug: str) -> Startup:
        rule = {"topic": f"testbed/{slug}/{{device}}/climate", "fields": fields, "tags": {"batch": "/b"}}
        return Startup.model_validate({"slug": slug, "name": slug, "topics": {"climate": rule}})

    settings = Settings(state_dir=directory, http=Http(listen=f"127.0.0.1:{port}"))
    return Config(settings=settings, startups=tuple(startup(f"lab-{number:03}") for number in range(STARTUPS)))


def _lines() -> list[list[bytes]]:
    now_ns = time.time_ns()
    lines = [
        b'climate,batch=b-%d,device=dev-%05d t=21.%d,note="nothing to note" %d'
        % (number % SERIES, number % 20, number % 10, now_ns - number * 10_000_000)
        for number in range(READINGS)
    ]
    return [lines[start : start + 5_000] for start in range(0, len(lines), 5_000)]


def _readings(count: int) -> list[Reading]:
    now_ns = time.time_ns()
    return [
        Reading(SLUG, f"dev-{number % 20:05}", "climate", {"batch": "b"}, {"t": 21.5}, now_ns)
        for number in range(count)
    ]


def _devices() -> list[Device]:
    now_ns = time.time_ns()
    one = Device(SLUG, "", now_ns, now_ns, 12, 3, now_ns, frozenset({"climate"}))
    return [one._replace(device=f"dev-{number:05}") for number in range(DEVICES)]


async def _fill(database: Database) -> None:
    """Keep dead letters with many reasons, and a ledger of all startups."""
    reasons = tuple(Reason(Code.MISSING, f"/field-{number}", "a number", "nothing") for number in range(5))
    letters = [
        Rejection(SLUG, "d", f"testbed/{SLUG}/d/climate", b"x" * 60_000, number, reasons) for number in range(LETTERS)
    ]
    counts = Counts(received=10, accepted=9, rejected=1, stored=9)
    await database.open()
    for start in range(0, LETTERS, 100):
        some = letters[start : start + 100]
        await database.write(lambda connection: dead_letters.insert(connection, some, DeadLetterSettings()))  # noqa: B023
    ledgers = {f"lab-{number:03}": counts for number in range(STARTUPS)}
    await database.write(lambda connection: ledger.add(connection, ledgers))
    await database.close()


if __name__ == "__main__":
    main()
