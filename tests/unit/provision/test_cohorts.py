"""What a startup that leaves loses: all that it was ever given, and nothing of anybody else's."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gateway.cli.rendering import console
from gateway.config import Config
from gateway.provision import cohorts, rendering, run
from gateway.provision.plan import Plan
from tests.builders import config, startup
from tests.unit.provision.fake_grafana import FakeGrafana
from tests.unit.provision.grafana_runs import ACME, acme, apply, plan, server, with_range


@pytest.fixture
async def grafana() -> AsyncIterator[FakeGrafana]:
    async with FakeGrafana(13).running() as running:
        yield running


async def remove(grafana: FakeGrafana, before: Config, slug: str) -> Plan:
    """What `gateway startups remove` does at Grafana."""
    others = Config(settings=before.settings, startups=tuple(other for other in before.startups if other.slug != slug))
    async with server(grafana) as made:
        found = await cohorts.revocation(before, others, [slug], [made], delete_data=False)
        assert (await run.apply(found, [made], lambda _step: None)).problem == ""
    grafana.index()
    return found


async def test_former_team_members_lose_access_with_it(grafana: FakeGrafana) -> None:
    """A former member of the team who was not pruned does not stay in an organisation that stays."""
    await apply(grafana, config(acme(team=["ana@acme.example", "zoe@acme.example"]), startup("bolt")))
    grafana.edit_dashboard(ACME, "acme-climate", "ana@acme.example", title="Ours")
    await remove(grafana, config(acme(team=["ana@acme.example"]), startup("bolt")), "acme")
    assert {one.login for one in grafana.accounts.values()} == {"admin", "bolt"}
    assert set(grafana.org(ACME).dashboards) == {"acme-climate"}


async def test_newer_dashboards_beside_edited_ones_go_with_it(grafana: FakeGrafana) -> None:
    """Of the dashboards only those stay that somebody edited."""
    await apply(grafana, config(acme(topics=with_range(1))))
    grafana.edit_dashboard(ACME, "acme-climate", "acme", title="Ours")
    changed = config(acme(topics=with_range(2)))
    await apply(grafana, changed)
    assert set(grafana.org(ACME).dashboards) == {"acme-all-devices", "acme-climate", "acme-climate-v2"}
    await remove(grafana, changed, "acme")
    assert set(grafana.org(ACME).dashboards) == {"acme-climate"}


async def test_an_organisation_that_stays_is_listed_with_its_contents(grafana: FakeGrafana) -> None:
    """When the startup leaves, and in each plan until somebody has deleted it."""
    both = config(acme(), startup("bolt"))
    await apply(grafana, both)
    grafana.edit_dashboard(ACME, "acme-climate", "acme", title="Ours")
    line = "stays: grafana organisation acme, which holds the dashboard 'Ours'"
    left = await remove(grafana, both, "acme")
    later = await plan(grafana, config(startup("bolt")), prune=True)
    for one in (left, later):
        with (out := console()).capture() as shown:
            out.print(rendering.plan(one), soft_wrap=True)
        assert line in shown.get()
        assert rendering.plan_json(one)["stays"] == [
            {"server": "grafana", "kind": "organisation", "name": "acme", "holds": ["the dashboard 'Ours'"]}
        ]
    with (out := console()).capture() as shown:
        out.print(rendering.applied(left, run.Applied(left.steps, ())), soft_wrap=True)
    assert line in shown.get()
    assert later.is_done
    grafana.org(ACME).dashboards.clear()
    assert (await plan(grafana, config(startup("bolt")))).stays == ()
