"""Requests and the event loop: they begin in turns, and large answers come in pieces."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from starlette.types import Message

from gateway.api.edge import Edge
from gateway.api.limits import Limits
from gateway.api.routes import create_api
from gateway.api.services import Services
from gateway.api.streaming import PIECE
from gateway.model import Reading
from gateway.state.devices import Device
from tests.unit.api.services import services

MANY = 10_000


class ManySeries:
    """A store with many series."""

    async def latest(self, _startup: str) -> AsyncGenerator[list[Reading]]:
        for start in range(0, MANY, 500):
            yield [Reading("acme", f"d-{start + n}", "climate", {}, {"t": 21.5}, n) for n in range(500)]


async def test_requests_of_one_startup_leave_turns_to_others() -> None:
    """However many of them wait, one of another startup begins after one of them, or two."""
    limits, order = Limits(), list[str]()

    async def ask(owner: str) -> None:
        await limits.begin(owner)
        order.append(owner)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(50):
            tasks.create_task(ask("acme"))
        tasks.create_task(ask("birch"))
    assert order.index("birch") <= 2
    assert len(order) == 51


async def test_one_request_begins_in_a_turn_of_the_loop() -> None:
    """Others have their turns before the next one begins."""
    limits, seen = Limits(), list[str]()

    async def ask() -> None:
        await limits.begin("acme")
        seen.append("request")
        asyncio.get_running_loop().call_soon(seen.append, "others")

    async with asyncio.TaskGroup() as tasks:
        for _ in range(5):
            tasks.create_task(ask())
    assert seen == ["request", "others"] * 5


@pytest.mark.parametrize("what", ["devices", "latest"])
async def test_large_answers_come_in_pieces(tmp_path: Path, what: str) -> None:
    """Ten thousand devices or series are never one piece, and all are there."""
    device = Device("acme", "", 1, 2, 3, 4, 5)
    of = services(tmp_path, devices=lambda _startup: [device] * MANY, store=ManySeries())  # type: ignore[arg-type]
    pieces = await answer(of, what)
    assert max(map(len, pieces)) <= PIECE
    assert b"".join(pieces).count(b'"device":') == MANY


async def answer(of: Services, what: str) -> list[bytes]:
    """Return the pieces of an answer about acme."""
    pieces: list[bytes] = []

    async def send(message: Message) -> None:
        pieces.append(message.get("body", b""))

    scope = {
        "type": "http",
        "method": "GET",
        "scheme": "http",
        "path": f"/v1/startups/acme/{what}",
        "query_string": b"",
        "headers": [(b"authorization", b"Bearer acme-token")],
    }
    await Edge(create_api(of), of)(scope, _never, send)
    return pieces


async def _never() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


class GoneSeries:
    """A store that has nothing of some measurements, whose points were deleted."""

    async def latest(self, _startup: str) -> AsyncGenerator[list[Reading]]:
        for number in range(3):
            yield []
            yield [Reading("acme", f"d-{number}", "climate", {}, {"t": 21.5}, number)]
        yield []


async def test_latest_without_points_of_a_measurement_is_json(tmp_path: Path) -> None:
    """A store may have nothing of a measurement: the answer is an array of the readings that there are."""
    pieces = await answer(services(tmp_path, store=GoneSeries()), "latest")  # type: ignore[arg-type]
    assert [one["device"] for one in json.loads(b"".join(pieces))["readings"]] == ["d-0", "d-1", "d-2"]
