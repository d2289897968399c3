"""`GrafanaServer` against a fake Grafana: from nothing, again, half-way, beside others, and back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest
from aiohttp import web

from gateway.errors import AdminRejected, ProvisionError, ServerUnreachable
from gateway.provision.plan import Credential, diff
from tests.builders import config, startup
from tests.servers import free_port
from tests.unit.provision.fake_grafana import ADMIN, ONCE, FakeGrafana
from tests.unit.provision.grafana_runs import ACME, acme, apply, plan, server, steps, with_range


@pytest.fixture(params=[11, 13])
def fake(request: pytest.FixtureRequest) -> FakeGrafana:
    """As old and as new as is supported."""
    return FakeGrafana(request.param)


@pytest.fixture
async def grafana(fake: FakeGrafana) -> AsyncIterator[FakeGrafana]:
    async with fake.running():
        yield fake


@contextmanager
def broken_at(grafana: FakeGrafana, write: int) -> Iterator[None]:
    """The server fails from its `write`-th writing request on."""
    first = len(grafana.writes)
    grafana.breaks = lambda _request, count: "disk full" if count - first >= write else ""
    yield
    grafana.breaks = lambda _request, _count: ""


# ------------------------------------------------------------------ from nothing


async def test_plan_from_nothing_shows_everything_in_the_order_in_which_it_is_made(grafana: FakeGrafana) -> None:
    """What is named by another is made before it."""
    found = await plan(grafana, config(acme(team=["Ana@acme.example"], topics=with_range(5))))
    assert steps(found) == [
        "+ grafana organisation acme",
        "+ grafana user acme/ana@acme.example",
        "+ grafana data source acme",
        "+ grafana folder acme",
        "+ grafana dashboard acme/acme-all-devices",
        "+ grafana dashboard acme/acme-climate",
        "+ grafana alert rule acme/acme-climate-silent",
        "+ grafana alert rule acme/acme-out-of-range",
    ]
    assert grafana.writes == []


async def test_applied_once_nothing_is_left_to_do(grafana: FakeGrafana) -> None:
    """Apply is idempotent, and reads back everything that it compares."""
    wanted = config(acme(topics=with_range(5)), startup("bolt"))
    await apply(grafana, wanted)
    writes = len(grafana.writes)
    found = await plan(grafana, wanted, prune=True)
    assert (found.steps, found.conflicts, found.leftover) == ((), (), ())
    assert await apply(grafana, wanted) == []
    assert len(grafana.writes) == writes


async def test_each_step_may_be_repeated(grafana: FakeGrafana) -> None:
    """A step whose answer was lost does no harm when it is done again."""
    wanted = config(acme(topics=with_range(5)))
    async with server(grafana) as made:
        for step in diff(made.wanted(wanted), await made.actual(wanted)).steps:
            await made.apply(step)
            assert [one.secret for one in await made.apply(step)] == []
    assert (await plan(grafana, wanted)).is_done
    assert set(grafana.org(ACME).dashboards) == {"acme-all-devices", "acme-climate"}


async def test_below_a_path(fake: FakeGrafana) -> None:
    """Grafana may be served below a path."""
    async with fake.running("/grafana"):
        await apply(fake, config(acme()))
    assert "acme-climate" in fake.org(ACME).dashboards


# ------------------------------------------------------------------ data source


async def test_the_data_source_sends_the_startups_token_and_shows_only_a_fingerprint(grafana: FakeGrafana) -> None:
    """What isolates is the token; what is compared is a hash."""
    await apply(grafana, config(acme()))
    org = grafana.org(ACME)
    source = org.sources["testbed-acme"]
    assert (source["type"], source["access"], source["url"]) == ("influxdb", "proxy", "http://influxdb-of-acme:8086")
    assert source["jsonData"]["dbName"] == "testbed-acme"
    assert source["jsonData"]["httpHeaderName1"] == "Authorization"
    assert source["isDefault"] is True
    assert org.secrets["testbed-acme"] == {"httpHeaderValue1": "Token token-of-acme"}
    found = await plan(grafana, config(acme(), startup("bolt")))
    assert "token-of" not in repr(found)


async def test_a_new_token_updates_the_data_source(grafana: FakeGrafana) -> None:
    """And only that."""
    await apply(grafana, config(acme()))
    async with server(grafana, {"acme": "another"}) as made:
        (step,) = diff(made.wanted(config(acme())), await made.actual(config(acme()))).steps
        assert str(step) == "~ grafana data source acme"
        await made.apply(step)
    assert grafana.org(ACME).secrets["testbed-acme"] == {"httpHeaderValue1": "Token another"}


async def test_without_a_token_it_says_to_provision_influxdb_first(grafana: FakeGrafana) -> None:
    """What can be made is made; the rest comes when the token is there."""
    with pytest.raises(ProvisionError, match="provision InfluxDB first"):
        await apply(grafana, config(acme()), tokens={})
    assert grafana.role(ACME, "acme") == "Editor"
    await apply(grafana, config(acme()))
    assert (await plan(grafana, config(acme()))).is_done


# ------------------------------------------------------------------ after a failure


async def test_after_a_failure_at_any_request_the_next_run_completes(fake: FakeGrafana) -> None:
    """And the password of every new account was shown."""
    wanted = config(acme(team=["ana@acme.example"], topics=with_range(5)))
    for write in range(20):
        grafana = FakeGrafana(fake.major)
        shown: list[Credential] = []
        async with grafana.running():
            with broken_at(grafana, write):
                try:
                    await apply(grafana, wanted, credentials=shown)
                except ProvisionError:
                    assert len(grafana.writes) == write
                else:
                    return
            await apply(grafana, wanted, credentials=shown)
            assert (await plan(grafana, wanted, prune=True)).steps == ()
            assert grafana.role(ACME, "ana@acme.example") == "Editor"
            assert grafana.account("ana@acme.example").password == shown[-1].secret
    pytest.fail("it never gets through")


async def test_an_account_that_a_crash_left_without_its_role_gets_a_new_password(grafana: FakeGrafana) -> None:
    """Nobody can know the first one. Who has signed in keeps theirs."""
    wanted = config(acme(team=["ana@acme.example", "bob@acme.example"]))
    await apply(grafana, wanted)
    org = grafana.org(ACME)
    grafana.account("bob@acme.example").last_seen = ONCE
    for login in ("ana@acme.example", "bob@acme.example"):
        org.roles[grafana.account(login).id] = "Viewer"
    (credential,) = await apply(grafana, wanted)
    assert credential.name == "ana@acme.example"
    assert grafana.account("ana@acme.example").password == credential.secret
    assert grafana.role(ACME, "bob@acme.example") == "Editor"


# ------------------------------------------------------------------ errors


async def test_wrong_password_is_reported_as_such(grafana: FakeGrafana) -> None:
    """The error says what to check, and what Grafana answered."""
    async with server(grafana, password="wrong") as made:
        with pytest.raises(AdminRejected, match=r"Invalid username or password.*check the Grafana admin's user"):
            await made.actual(config(acme()))


async def test_account_that_is_not_a_server_admin_is_reported(grafana: FakeGrafana) -> None:
    """An organisation's Admin is not enough."""
    grafana.account(ADMIN).is_admin = False
    async with server(grafana) as made:
        with pytest.raises(AdminRejected, match="must be a server admin"):
            await made.actual(config(acme()))


async def test_unreachable_server_is_reported_with_its_address(fake: FakeGrafana) -> None:
    """And what to check."""
    fake.url = f"http://127.0.0.1:{free_port()}"
    async with server(fake) as made:
        with pytest.raises(ServerUnreachable, match=rf"no Grafana answers at {fake.url}: is it running"):
            await made.actual(config(acme()))


@pytest.mark.parametrize("kind", ["text/html", "application/json"])
async def test_another_server_at_the_address_is_reported(fake: FakeGrafana, kind: str) -> None:
    """A page that is no answer of Grafana's does not end in a traceback."""

    async def page(_request: web.Request) -> web.Response:
        return web.Response(text="<html>", content_type=kind)

    app = web.Application()
    app.router.add_get("/api/orgs", page)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with server(fake) as made:
        with pytest.raises(ProvisionError, match="is not Grafana"):
            await made.actual(config(acme()))
    await runner.cleanup()


async def test_what_grafana_says_is_in_the_error(grafana: FakeGrafana) -> None:
    """Its own message, with the status."""
    with broken_at(grafana, 0), pytest.raises(ProvisionError, match="answered 500: disk full"):
        await apply(grafana, config(acme()))
