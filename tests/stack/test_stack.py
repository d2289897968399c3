"""The whole stack as an operator uses it: provision two startups, send readings, look, take everything away again.

One provisioned stack serves all tests of this file; what it made is removed at the end, whatever happens. Its gateway
has an account and a token of a name of its own, so that a gateway which works on these servers keeps its.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.stores.influxdb import InfluxDBStore
from tests.builders import latest
from tests.running import Running, running
from tests.servers import WITHIN, eventually
from tests.stack.conftest import Servers
from tests.stack.stack import Stack, make_stack


@pytest.fixture(scope="module")
def stack(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    directory = tmp_path_factory.mktemp("stack")
    with asyncio.Runner() as runner, ExitStack() as cleanup:
        made = make_stack(servers, directory)
        cleanup.callback(lambda: runner.run(made.remove_all()))
        applied = runner.run(made.apply())
        assert applied.problem == "", applied.problem
        yield made


@pytest.fixture(scope="module")
def sent(stack: Stack) -> dict[str, float]:
    """A reading of each startup, sent by its device, through the gateway, into InfluxDB: slug -> temperature."""
    values = {stack.slugs[0]: 21.5, stack.slugs[1]: 4.25}

    async def send() -> None:
        async with running(stack.directory) as gateway:
            for slug, value in values.items():
                await _send(stack, gateway, slug, value)

    asyncio.run(send())
    return values


async def _send(stack: Stack, gateway: Running, slug: str, value: float) -> None:
    async with stack.device(slug) as device:
        payload = b'{"ts":%d,"t":%r,"running":true}' % (time.time_ns() // 1_000_000, value)
        await device.publish(f"testbed/{slug}/d1/climate", payload, qos=1)
    counts = await gateway.stored(1, slug)
    assert counts.balanced


async def test_provisioning_again_has_no_step(stack: Stack) -> None:
    """What was applied is not planned again."""
    plan = await stack.plan()
    assert plan.steps == ()
    assert plan.conflicts == ()


async def test_readings_arrive_through_the_whole_stack(stack: Stack, sent: dict[str, float]) -> None:
    """A device's reading is in its startup's bucket, written with the gateway's own token."""
    token = await asyncio.to_thread(stack.secret_files.read, f"influxdb-{stack.gateway}")
    store = InfluxDBStore(stack.config.settings.store.influxdb, token or "")
    await store.open()
    for slug, value in sent.items():
        (reading,) = await latest(store, slug)
        assert reading.fields == {"temperature": value, "running": True}
    await store.close()


async def test_a_read_token_reads_its_own_bucket_alone(stack: Stack, sent: dict[str, float]) -> None:
    """A startup's token reads its own data, not the other's, and writes nothing."""
    own, other = stack.slugs
    token = await asyncio.to_thread(stack.secret_files.read, f"influxdb-read-{own}")
    headers = {"Authorization": f"Token {token}"}
    async with httpx.AsyncClient(base_url=stack.servers.influxdb_url, headers=headers) as client:
        mine = await client.get("/query", params={"db": own, "q": "SELECT * FROM climate"})
        assert mine.json()["results"][0]["series"][0]["values"]
        theirs = await client.get("/query", params={"db": other, "q": "SELECT * FROM climate"})
        assert "climate" not in theirs.text
        for bucket in stack.slugs:
            write = {"bucket": bucket, "org": stack.servers.influxdb_org}
            assert (await client.post("/api/v2/write", params=write, content="x v=1")).status_code in (401, 403, 404)


async def test_the_gateways_token_cannot_administer(stack: Stack) -> None:
    """With the token that the gateway holds no bucket and no token can be made."""
    token = await asyncio.to_thread(stack.secret_files.read, f"influxdb-{stack.gateway}")
    headers = {"Authorization": f"Token {token}"}
    async with httpx.AsyncClient(base_url=stack.servers.influxdb_url, headers=headers) as client:
        made = await client.post("/api/v2/buckets", json={"name": "mine", "orgID": await _org_id(stack)})
        assert made.status_code in (401, 403)
        assert (await client.get("/api/v2/authorizations")).json().get("authorizations", []) == []


async def _org_id(stack: Stack) -> str:
    headers = {"Authorization": f"Token {stack.servers.influxdb_token}"}
    async with httpx.AsyncClient(base_url=stack.servers.influxdb_url, headers=headers) as client:
        answer = await client.get("/api/v2/orgs", params={"org": stack.servers.influxdb_org})
    return str(answer.json()["orgs"][0]["id"])


async def test_a_token_revoked_behind_our_back_is_made_anew(stack: Stack) -> None:
    """A token that somebody deleted shows in the next plan, and is there again after the apply."""
    headers = {"Authorization": f"Token {stack.servers.influxdb_token}"}
    name = f"read-{stack.slugs[1]}"
    async with httpx.AsyncClient(base_url=stack.servers.influxdb_url, headers=headers) as client:
        found = (await client.get("/api/v2/authorizations")).json()["authorizations"]
        (mine,) = [one for one in found if f": {name} #" in one["description"]]
        await client.delete(f"/api/v2/authorizations/{mine['id']}")
    plan = await stack.plan()
    assert f"+ influxdb token {name}" in {str(step) for step in plan.steps}
    assert (await stack.apply()).problem == ""
    assert (await stack.plan()).is_done


class GrafanaUser:
    """A startup's own user, as its team signs in."""

    def __init__(self, stack: Stack, slug: str) -> None:
        login, secret = next(
            (one.name, one.secret) for one in stack.credentials if one.startup == slug and "Grafana" in one.whose
        )
        self.client = httpx.AsyncClient(base_url=stack.servers.grafana_url, auth=(login, secret), timeout=WITHIN)

    async def query(self, source: str) -> httpx.Response:
        query = {
            "refId": "A", "datasource": {"type": "influxdb", "uid": source}, "rawQuery": True,
            "query": 'SELECT "temperature" FROM "climate"', "resultFormat": "time_series",
        }  # fmt: skip
        return await self.client.post("/api/ds/query", json={"queries": [query], "from": "now-1h", "to": "now+1m"})

    async def dashboards(self) -> list[dict[str, Any]]:
        """All that the user finds; there are some."""

        async def found() -> list[dict[str, Any]]:
            answer: list[dict[str, Any]] = await self.may("GET", "/api/search", params={"type": "dash-db"})
            return answer

        return await eventually(found, every=1, says="Grafana lists dashboards")

    async def may(self, method: str, path: str, **more: Any) -> Any:
        """What Grafana answers to what the user may do. With its cache of permissions on, some versions refuse an
        editor for a minute (docs/provisioning.md, "Your own servers")."""

        async def answered() -> httpx.Response:
            answer = await self.client.request(method, path, **more)
            assert answer.status_code != 403, answer.text
            return answer

        answer = await eventually(answered, every=1, says=f"Grafana allows {method} {path}")
        assert answer.status_code == 200, answer.text
        return answer.json()


async def test_each_team_sees_its_own_data_in_grafana(stack: Stack, sent: dict[str, float], grafana: Servers) -> None:
    """A team's user queries its own data source through Grafana and gets its reading; the other's it cannot see."""
    for own, other in (stack.slugs, stack.slugs[::-1]):
        user = GrafanaUser(stack, own)
        async with user.client:

            async def arrived(user: GrafanaUser = user, own: str = own) -> bool:
                answer = await user.query(f"testbed-{own}")
                return answer.status_code == 200 and str(sent[own]) in answer.text

            await eventually(arrived, every=0.5, says="the reading shows in Grafana")
            refused = await user.query(f"testbed-{other}")
            assert refused.status_code >= 400 or str(sent[other]) not in refused.text
            sources = (await user.client.get("/api/datasources")).json()
            if isinstance(sources, list):
                assert {one["uid"] for one in sources} <= {f"testbed-{own}"}


async def test_each_team_has_its_dashboards(stack: Stack, grafana: Servers) -> None:
    """A team finds a generated dashboard of each of its measurements, and none of another startup."""
    for own, other in (stack.slugs, stack.slugs[::-1]):
        user = GrafanaUser(stack, own)
        async with user.client:
            found = await user.dashboards()
            assert not any(other in str(one) for one in found)
            for one in found:
                body = await user.may("GET", f"/api/dashboards/uid/{one['uid']}")
                assert body["dashboard"]["panels"]


async def test_a_team_is_editor_of_its_own_organisation_alone(stack: Stack, grafana: Servers) -> None:
    """A team's user is in one organisation, as editor, and no server admin."""
    for slug in stack.slugs:
        async with GrafanaUser(stack, slug).client as client:
            orgs = (await client.get("/api/user/orgs")).json()
            assert [one["role"] for one in orgs] == ["Editor"]
            assert (await client.get("/api/admin/settings")).status_code in (401, 403)
            assert (await client.get("/api/orgs")).status_code in (401, 403)


async def test_an_edited_dashboard_is_not_overwritten(stack: Stack, grafana: Servers) -> None:
    """After a team has edited a generated dashboard, provisioning leaves it as the team left it."""
    user = GrafanaUser(stack, stack.slugs[0])
    async with user.client:
        path = f"/api/dashboards/uid/{(await user.dashboards())[0]['uid']}"
        body = await user.may("GET", path)
        edited = {
            "dashboard": body["dashboard"] | {"title": "Ours now"},
            "folderUid": body["meta"].get("folderUid", ""),
        }
        await user.may("POST", "/api/dashboards/db", json=edited | {"overwrite": True})
        assert (await stack.apply()).problem == ""
        again = await user.may("GET", path)
        assert again["dashboard"]["title"] == "Ours now"
        await user.may("DELETE", path)  # as long as it is there, the organisation is not removed


async def test_everything_that_was_made_is_removed(servers: Servers, tmp_path: Path) -> None:
    """A stack of its own is provisioned and removed: the next plan wants everything anew, and nothing is left over."""
    other = await asyncio.to_thread(make_stack, servers, tmp_path)
    try:
        assert (await other.apply()).problem == ""
    finally:
        await other.remove_all()
    plan = await other.plan()
    theirs = {step.resource.startup for step in plan.steps if step.action == "create"}
    assert theirs >= set(other.slugs)
    left = {resource.name for resource in plan.leftover}
    assert not any(own in name for own in (*other.slugs, other.gateway) for name in left)
