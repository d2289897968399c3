"""What a startup that leaves loses: all that it was ever given, and nothing of anybody else's."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gateway.config import Config
from gateway.provision import programme, run
from tests.builders import config, startup
from tests.unit.provision.fake_grafana import FakeGrafana
from tests.unit.provision.test_grafana import ACME, acme, apply, server, with_range


@pytest.fixture
async def grafana() -> AsyncIterator[FakeGrafana]:
    async with FakeGrafana(13).running() as running:
        yield running


async def remove(grafana: FakeGrafana, before: Config, slug: str) -> None:
    """What `gateway startups remove` does at Grafana."""
    others = Config(settings=before.settings, startups=tuple(other for other in before.startups if other.slug != slug))
    async with server(grafana) as made:
        plan = await programme.revocation(before, others, [slug], [made], delete_data=False)
        assert (await run.apply(plan, [made], lambda _step: None)).problem == ""
    grafana.index()


async def test_who_left_the_team_before_loses_access_with_it(grafana: FakeGrafana) -> None:
    """Somebody who is in the team no more, and was not pruned, does not stay in an organisation that stays."""
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
