"""Several hosts over HTTP: what only one of them has is asked there, and the answer says where that is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.api.auth import Tokens
from gateway.api.routes import create_api
from gateway.config import Config, Settings
from gateway.model import Counts
from gateway.state import ledger
from gateway.state.database import FILE_NAME
from gateway.stores.sqlite import SqliteStore
from tests.builders import database, startup
from tests.unit.api.services import TOKENS, client, services

SOUTH = "https://south.example"


def config(*, birch: str = "south") -> Config:
    hosts = {"north": {"url": "https://north.example"}, "south": {"url": f"{SOUTH}/"}}
    settings = Settings.model_validate({"hosts": hosts, "store": {"kind": "influxdb"}})
    return Config(settings=settings, startups=(startup("acme"), startup("birch", host=birch)), host="north")


@pytest.fixture
async def state(tmp_path: Path) -> Path:
    """A state directory with counts of both startups."""
    async with database(tmp_path / FILE_NAME) as opened:
        counts = {slug: Counts(received=1, rejected=1) for slug in TOKENS}
        await opened.write(lambda connection: ledger.add(connection, counts))
    return tmp_path


def routes() -> Iterator[tuple[str, str]]:
    """Every route of a startup."""
    nothing: Any = None
    for path, operations in create_api(nothing).openapi()["paths"].items():
        if "{startup}" in path:
            for method in operations:
                yield method, path.replace("{startup}", "birch").replace("{ident}", "1")


ANYWHERE = ("/telemetry", "/latest")
"""Routes that read the store, which all hosts share."""


@pytest.mark.parametrize(("method", "path"), list(routes()))
async def test_a_startup_is_sent_to_its_host(state: Path, method: str, path: str) -> None:
    """Every route whose data only that host has answers 421 with its URL; what is in the store is answered here."""
    store = SqliteStore(state / "store")
    await store.open()
    async with client(services(state, store, config=config()), "birch-token") as one:
        body = {"ids": [1]} if method == "post" else None
        answer = await one.request(method, f"{path}?measurement=climate", json=body)
    await store.close()
    if path.endswith(ANYWHERE):
        assert answer.status_code == 200
        return
    assert answer.status_code == 421
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["url"] == SOUTH
    assert answer.json()["detail"] == f"birch is served by the host south, not by north: ask {SOUTH}"


async def test_operators_reach_what_a_startup_has_left_here(state: Path) -> None:
    """Its dead letters stay on the host where they arrived; its live events and devices are elsewhere."""
    async with client(services(state, config=config()), "operator-token") as one:
        assert (await one.get("/v1/startups/birch/rejections")).status_code == 200
        assert (await one.get("/v1/startups/birch/devices")).status_code == 421
        assert (await one.get("/v1/startups/acme/devices")).status_code == 200


async def test_a_host_reports_its_own_startups_and_what_is_left_here(state: Path, tmp_path_factory: Any) -> None:
    """The status of a host names it; it has the startups of other hosts only as far as their counts are here."""
    async with client(services(state, config=config()), "operator-token") as one:
        status = (await one.get("/v1/operator/status")).json()
    assert status["host"] == "north"
    assert list(status["startups"]) == ["acme", "birch", "_unrouted"]
    empty = tmp_path_factory.mktemp("empty")
    async with database(empty / FILE_NAME):
        pass
    async with client(services(empty, config=config()), "operator-token") as one:
        assert list((await one.get("/v1/operator/status")).json()["startups"]) == ["acme", "_unrouted"]


async def test_a_startup_that_moves_is_sent_on(state: Path) -> None:
    """From the reload on, in both directions."""
    of = services(state, config=config(birch="north"))
    tokens = Tokens(TOKENS, "operator-token")
    async with client(of, "birch-token") as one:
        assert (await one.get("/v1/startups/birch")).status_code == 200
        of.use(config(birch="south"), tokens)
        assert (await one.get("/v1/startups/birch")).status_code == 421
        of.use(config(birch="north"), tokens)
        assert (await one.get("/v1/startups/birch")).status_code == 200
