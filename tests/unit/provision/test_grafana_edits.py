"""Dashboards that people edit are kept, and the next generated one goes beside them; nobody edits an alert rule."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gateway.provision.plan import diff
from tests.builders import config
from tests.unit.provision.fake_grafana import ADMIN, FakeGrafana
from tests.unit.provision.grafana_runs import ACME, acme, apply, plan, server, steps, with_range


@pytest.fixture(params=[11, 13])
def fake(request: pytest.FixtureRequest) -> FakeGrafana:
    """As old and as new as is supported."""
    return FakeGrafana(request.param)


@pytest.fixture
async def grafana(fake: FakeGrafana) -> AsyncIterator[FakeGrafana]:
    async with fake.running():
        yield fake


async def test_a_rule_that_changes_replaces_an_unedited_dashboard(grafana: FakeGrafana) -> None:
    """Again and again, in place."""
    for highest in (5, 6, 7):
        await apply(grafana, config(acme(topics=with_range(highest))))
    dashboards = grafana.org(ACME).dashboards
    assert set(dashboards) == {"acme-all-devices", "acme-climate"}
    assert dashboards["acme-climate"]["dashboard"]["version"] == 3


async def test_an_edited_dashboard_is_kept_and_the_next_goes_beside_it(grafana: FakeGrafana) -> None:
    """The generated one goes on beside it, under one UID until that is edited too."""
    await apply(grafana, config(acme(topics=with_range(5))))
    grafana.edit_dashboard(ACME, "acme-climate", by="acme", title="Ours")
    edited = grafana.org(ACME).dashboards["acme-climate"]
    found = await plan(grafana, config(acme(topics=with_range(6))))
    step = next(step for step in found.steps if step.resource.name == "acme/acme-climate")
    assert "edited by acme and kept → " in step.changes[0]
    for highest in (6, 7):
        await apply(grafana, config(acme(topics=with_range(highest))))
    dashboards = grafana.org(ACME).dashboards
    assert set(dashboards) == {"acme-all-devices", "acme-climate", "acme-climate-v2"}
    assert dashboards["acme-climate"] == edited
    assert dashboards["acme-climate-v2"]["dashboard"]["title"] == "climate (generated 2)"
    assert (await plan(grafana, config(acme(topics=with_range(7))))).is_done


async def test_a_dashboard_edited_from_the_present_rules_is_up_to_date(grafana: FakeGrafana) -> None:
    """There is nothing newer to put beside it."""
    await apply(grafana, config(acme()))
    grafana.edit_dashboard(ACME, "acme-climate", by="acme", refresh="5s")
    assert (await plan(grafana, config(acme()), prune=True)).is_done


async def test_an_edited_second_dashboard_is_kept_too(grafana: FakeGrafana) -> None:
    """A third one follows; also where the search does not know the second yet, and where the first was deleted."""
    await apply(grafana, config(acme(topics=with_range(5))))
    grafana.edit_dashboard(ACME, "acme-climate", by="acme", tags=[])
    await apply(grafana, config(acme(topics=with_range(6))))
    grafana.edit_dashboard(ACME, "acme-climate-v2", by=ADMIN, refresh="5s")
    grafana.org(ACME).indexed = set()
    await apply(grafana, config(acme(topics=with_range(7))))
    assert "acme-climate-v3" in grafana.org(ACME).dashboards
    del grafana.org(ACME).dashboards["acme-climate"]
    assert (await plan(grafana, config(acme(topics=with_range(7))))).is_done


async def test_edited_between_plan_and_apply_it_is_kept(grafana: FakeGrafana) -> None:
    """A save names the version that it replaces."""
    await apply(grafana, config(acme(topics=with_range(5))))
    changed = config(acme(topics=with_range(6)))
    async with server(grafana) as made:
        steps = diff(made.wanted(changed), await made.actual(changed)).steps
        grafana.edit_dashboard(ACME, "acme-climate", by="acme", title="Ours")
        for step in steps:
            await made.apply(step)
    dashboards = grafana.org(ACME).dashboards
    assert dashboards["acme-climate"]["dashboard"]["title"] == "Ours"
    assert "acme-climate-v2" in dashboards


async def test_edited_in_the_very_moment_of_the_save_it_is_kept(grafana: FakeGrafana) -> None:
    """A save never overwrites: it names what it replaces, and is rejected if that has changed."""
    await apply(grafana, config(acme(topics=with_range(5))))
    saves = []

    def edit_first(request: str, _count: int) -> str:
        saves.append(request)
        if saves.count("POST /api/dashboards/db") == 2:  # the first is of the overview
            grafana.edit_dashboard(ACME, "acme-climate", by="acme", title="Ours")
        return ""

    grafana.breaks = edit_first
    await apply(grafana, config(acme(topics=with_range(6))))
    dashboards = grafana.org(ACME).dashboards
    assert dashboards["acme-climate"]["dashboard"]["title"] == "Ours"
    assert "acme-climate-v2" in dashboards


async def test_a_deleted_dashboard_is_created_again(grafana: FakeGrafana) -> None:
    """What is wanted and missing is made."""
    await apply(grafana, config(acme()))
    del grafana.org(ACME).dashboards["acme-climate"]
    assert steps(await plan(grafana, config(acme()))) == ["+ grafana dashboard acme/acme-climate"]


async def test_an_alert_rule_of_that_uid_that_somebody_made_is_a_conflict(grafana: FakeGrafana) -> None:
    """It is not written over."""
    await apply(grafana, config(acme()))
    grafana.org(ACME).rules["acme-climate-silent"]["annotations"] = {}
    found = await plan(grafana, config(acme()), prune=True)
    assert [one.resource.name for one in found.conflicts] == ["acme/acme-climate-silent"]
    assert found.steps == ()


async def test_nobody_edits_an_alert_rule_that_would_be_replaced(grafana: FakeGrafana) -> None:
    """Rules have provenance; a changed rule is an update."""
    await apply(grafana, config(acme(topics=with_range(5))))
    assert not grafana.may_edit_rule(ACME, "acme-climate-silent")
    renamed = {"air": with_range(5)["climate"]}
    assert "+ grafana alert rule acme/acme-air-silent" in steps(await plan(grafana, config(acme(topics=renamed))))
    grafana.org(ACME).rules["acme-out-of-range"]["annotations"]["testbed_generated"] = "older"
    assert steps(await plan(grafana, config(acme(topics=with_range(5))))) == [
        "~ grafana alert rule acme/acme-out-of-range"
    ]
