"""Release of a stopped lane over HTTP."""

from __future__ import annotations

from pathlib import Path

from tests.unit.api.services import client, services

URL = "/v1/operator/lanes/release"


async def test_operator_releases_a_lane(tmp_path: Path) -> None:
    """An operator lets a lane go on, and the answer says whether it had stopped; no startup may."""
    asked: list[str] = []

    async def release(startup: str) -> bool:
        asked.append(startup)
        return startup == "acme"

    of = services(tmp_path, release=release)
    async with client(of, "operator-token") as operator, client(of) as acme:
        answer = await operator.post(URL, json={"startup": "acme"})
        assert answer.json() == {"startup": "acme", "released": True}
        assert not (await operator.post(URL, json={"startup": "birch"})).json()["released"]
        assert (await acme.post(URL, json={"startup": "acme"})).status_code == 403
        assert (await operator.post(URL, json={"startup": "Not one"})).status_code == 422
    assert asked == ["acme", "birch"]
