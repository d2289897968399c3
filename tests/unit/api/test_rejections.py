"""Dead letters over HTTP: pages of bounded size, whole payloads, and replays that are bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from gateway.config.models import DeadLetterSettings
from gateway.errors import ReplayImpossible
from gateway.model import Reason, Rejection
from gateway.state import dead_letters
from gateway.state.database import FILE_NAME
from tests.builders import database, rejection
from tests.servers import WITHIN, eventually
from tests.unit.api.services import client, services

URL = "/v1/startups/acme/rejections"


async def keep(directory: Path, *rejections: Rejection, max_size: str = "64MiB") -> None:
    bounds = DeadLetterSettings.model_validate({"max_size": max_size})
    async with database(directory / FILE_NAME) as state:
        await state.write(lambda connection: dead_letters.insert(connection, rejections, bounds))


async def test_list_has_the_beginning_of_each_payload(tmp_path: Path) -> None:
    """A thousand dead letters of 64 KB are pages of some hundred KB: they say that payloads are cut, and how large they
    are; short ones are whole."""
    await keep(tmp_path, *(rejection(b"x" * 65_000) for _ in range(999)), rejection(b"short"))
    async with client(services(tmp_path)) as http:
        answer = await http.get(URL, params={"limit": 1000})
    assert len(answer.content) < 2 * dead_letters.PAGE
    first, second, *_ = answer.json()["rejections"]
    assert (first["payload"], first["bytes"], first["cut"]) == ("short", 5, False)
    assert (second["payload"], second["bytes"], second["kept"]) == ("x" * 1024, 65_000, 65_000)
    assert second["cut"]


async def test_pages_are_bounded_in_bytes(tmp_path: Path) -> None:
    """With the longest topics a page has fewer dead letters than asked for; `next` leads to the others."""
    await keep(tmp_path, *(rejection(b"%d" % number, topic="t" * 65_000) for number in range(100)))
    seen: list[str] = []
    async with client(services(tmp_path)) as http:
        following: dict[str, str] = {}
        while True:
            answer = await http.get(URL, params={"limit": "1000", **following})
            assert len(answer.content) < dead_letters.PAGE + dead_letters.LARGEST
            seen += [one["payload"] for one in answer.json()["rejections"]]
            if answer.json()["next"] is None:
                break
            following = {"before": answer.json()["next"]}
    assert seen == [str(number) for number in reversed(range(100))]


async def test_payload_is_whole_on_a_route_of_its_own(tmp_path: Path) -> None:
    """Its bytes come as they arrived; so does what was kept of one that was too long."""
    raw = bytes(range(256)) * 1000
    await keep(tmp_path, rejection(raw))
    await keep(tmp_path, rejection(b"z" * 1_000_000), max_size="400KB")
    async with client(services(tmp_path)) as http:
        long, whole = (await http.get(URL)).json()["rejections"]
        answer = await http.get(f"{URL}/{whole['id']}/payload")
        assert (answer.content, answer.headers["content-type"]) == (raw, "application/octet-stream")
        assert (await http.get(f"{URL}/{whole['id']}")).json() == whole
        kept = (await http.get(f"{URL}/{long['id']}/payload")).content
        assert (len(kept), long["bytes"]) == (long["kept"], 1_000_000)
        assert long["kept"] < 100_000


async def test_payload_of_another_startup_is_not_found(tmp_path: Path) -> None:
    """An id of another startup's dead letter is answered like one that does not exist."""
    await keep(tmp_path, rejection(startup="birch"))
    async with client(services(tmp_path)) as http:
        for ident in (1, 99):
            for path in (f"{URL}/{ident}", f"{URL}/{ident}/payload"):
                answer = await http.get(path)
                assert answer.status_code == 404
                assert f"acme has no dead letter {ident}" in answer.json()["detail"]


async def test_replays_are_bounded_for_each_startup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A third request of one startup that replays is rejected while two are under way, and says so; another startup's
    is not."""
    monkeypatch.setattr("gateway.api.rejections.WAIT", 0.01)
    await keep(tmp_path, rejection(), rejection(startup="birch"))
    begun, may_end = 0, asyncio.Event()

    async def replay(ident: int) -> Sequence[Reason]:
        nonlocal begun
        begun += 1
        if ident == 1:
            await may_end.wait()
        return ()

    of = services(tmp_path, replay=replay)
    async with client(of) as acme, client(of, "birch-token") as birch:
        waiting = [asyncio.ensure_future(acme.post(f"{URL}/replay", json={"ids": [1]})) for _ in range(2)]
        await eventually(lambda: begun == 2)
        rejected = await acme.post(f"{URL}/replay", json={"ids": [1]})
        assert (rejected.status_code, rejected.headers["retry-after"]) == (429, "5")
        assert "at most 2 requests that replay dead letters of one startup" in rejected.json()["detail"]
        other = await birch.post("/v1/startups/birch/rejections/replay", json={"ids": [2]})
        assert other.json() == {"results": [{"id": 2, "result": "accepted"}]}
        may_end.set()
        async with asyncio.timeout(WITHIN):
            assert {(await one).status_code for one in waiting} == {200}


async def test_replay_that_is_rejected_says_why(tmp_path: Path) -> None:
    """One that cannot be replayed now is reported with the reason, and the next ones are tried."""

    async def replay(ident: int) -> Sequence[Reason]:
        if ident == 1:
            raise ReplayImpossible("the journal is full")
        return ()

    await keep(tmp_path, rejection(), rejection())
    async with client(services(tmp_path, replay=replay)) as http:
        results = (await http.post(f"{URL}/replay", json={"ids": [1, 2, 3]})).json()["results"]
    assert results == [
        {"id": 1, "result": "not replayed", "detail": "the journal is full"},
        {"id": 2, "result": "accepted"},
        {"id": 3, "result": "not found"},
    ]
