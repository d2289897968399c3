"""Release of a stopped lane over HTTP."""

from __future__ import annotations

from pathlib import Path

from tests.unit.api.services import client, services


async def test_operator_releases_a_lane(tmp_path: Path) -> None:
    """An operator lets a lane go on, and the answer says whether it had stopped; no startup may."""
    asked: list[str] = []

    async def release(startup: str) -> bool:
        asked.append(startup)
        return startup == "acme"

    of = services(tmp_path, release=release)
    async with client(of, "operator-token") as operator, client(of) as acme:
        answer = await operator.post("/v1/operator/lanes/acme/release")
        assert answer.json() == {"startup": "acme", "released": True}
        assert not (await operator.post("/v1/operator/lanes/birch/release")).json()["released"]
        assert (await acme.post("/v1/operator/lanes/acme/release")).status_code == 403
        assert (await operator.post("/v1/operator/lanes/Not%20one/release")).status_code == 422
    assert asked == ["acme", "birch"]
