"""Only with --prune, only what provisioning made, and nothing that people put beside it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gateway.errors import ProvisionError
from gateway.provision.plan import diff
from tests.builders import config, startup
from tests.unit.provision.fake_grafana import ADMIN, FakeGrafana
from tests.unit.provision.grafana_runs import ACME, BOLT, acme, apply, plan, server, steps, with_range


@pytest.fixture(params=[11, 13])
def fake(request: pytest.FixtureRequest) -> FakeGrafana:
    """As old and as new as is supported."""
    return FakeGrafana(request.param)


@pytest.fixture
async def grafana(fake: FakeGrafana) -> AsyncIterator[FakeGrafana]:
    async with fake.running():
        yield fake


async def test_nothing_is_removed_without_prune(grafana: FakeGrafana) -> None:
    """What is no longer wanted is listed as left over."""
    await apply(grafana, config(acme(), startup("bolt")))
    found = await plan(grafana, config(acme()))
    assert found.steps == ()
    assert {resource.startup for resource in found.leftover} == {"bolt"}


async def test_prune_removes_all_of_a_removed_startup_and_nothing_else(grafana: FakeGrafana) -> None:
    """In the reverse order; its account too, which is in no other organisation."""
    grafana.add_org("Others (others)")
    grafana.add_account("someone")
    before = {org.name for org in grafana.orgs.values()}, {one.login for one in grafana.accounts.values()}
    await apply(grafana, config(acme(), startup("bolt", topics=None)))
    found = await plan(grafana, config(acme()), prune=True)
    assert steps(found)[0] == "- grafana alert rule bolt/bolt-climate-silent"
    assert steps(found)[-1] == "- grafana organisation bolt"
    assert all(resource.startup == "bolt" for resource in (step.resource for step in found.steps))
    await apply(grafana, config(acme()), prune=True)
    assert {org.name for org in grafana.orgs.values()} == before[0] | {ACME}
    assert {one.login for one in grafana.accounts.values()} == before[1] | {"acme"}


async def test_prune_removes_former_team_members_except_accounts_made_by_others(grafana: FakeGrafana) -> None:
    """A visitor that an operator added stays; so does an account of a member of another startup."""
    grafana.add_account("guest@example.org")
    both = ["ana@acme.example", "eve@acme.example", "guest@example.org"]
    other = startup("bolt", team=["eve@acme.example"])
    await apply(grafana, config(acme(team=both), other))
    grafana.org(ACME).roles[grafana.account("guest@example.org").id] = "Editor"
    grafana.add_account("visitor")
    grafana.org(ACME).roles[grafana.account("visitor").id] = "Viewer"
    wanted = config(acme(team=["zoe@acme.example"]), other)
    found = await plan(grafana, wanted, prune=True)
    assert {text for text in steps(found) if text.startswith("-")} == {
        "- grafana user acme/ana@acme.example",
        "- grafana user acme/eve@acme.example",
    }
    await apply(grafana, wanted, prune=True)
    members = {grafana.accounts[ident].login for ident in grafana.org(ACME).roles}
    assert members == {ADMIN, "guest@example.org", "visitor", "zoe@acme.example"}
    assert "ana@acme.example" not in {one.login for one in grafana.accounts.values()}
    assert grafana.orgs_of("eve@acme.example") == {BOLT}


async def test_prune_keeps_what_the_startup_made_and_the_organisation_around_it(grafana: FakeGrafana) -> None:
    """An edited dashboard is the startup's work, and so is one of its own."""
    await apply(grafana, config(acme(), startup("bolt")))
    grafana.edit_dashboard(BOLT, "bolt-climate", by="bolt", title="Ours")
    grafana.index()
    await apply(grafana, config(acme()), prune=True)
    org = grafana.org(BOLT)
    assert (set(org.dashboards), set(org.folders), set(org.rules)) == ({"bolt-climate"}, {"testbed-bolt"}, set())
    del org.dashboards["bolt-climate"]
    await apply(grafana, config(acme()), prune=True)
    assert BOLT not in {org.name for org in grafana.orgs.values()}


@pytest.mark.parametrize("made", ["alert rule", "folder", "data source", "user", "copy of a dashboard"])
async def test_whatever_people_made_keeps_the_organisation(grafana: FakeGrafana, made: str) -> None:
    """With our folder, in which it may be."""
    await apply(grafana, config(acme(), startup("bolt")))
    org = grafana.org(BOLT)
    match made:
        case "alert rule":
            rule = org.rules["bolt-climate-silent"]
            org.rules["theirs"] = rule | {"uid": "theirs", "annotations": {}, "provenance": ""}
        case "folder":
            org.folders["theirs"] = "Theirs"
        case "data source":
            org.sources["theirs"] = {"uid": "theirs", "name": "Theirs"}
        case "user":
            org.roles[grafana.add_account("visitor").id] = "Viewer"
        case _:
            model = org.dashboards["bolt-climate"]["dashboard"] | {"uid": "copied"}
            org.dashboards["copied"] = {"dashboard": model | {"version": 2}, "meta": {"folderUid": "testbed-bolt"}}
            grafana.index()
    before = {"folder": set(org.folders), "rules": set(org.rules) & {"theirs"}, "dashboards": {"copied"}}
    await apply(grafana, config(acme()), prune=True)
    assert grafana.org(BOLT) is org
    assert set(org.folders) == before["folder"]
    assert set(org.rules) == before["rules"]
    assert set(org.dashboards) <= before["dashboards"]


async def test_prune_of_a_measurement_takes_its_dashboard_and_alert_rule(grafana: FakeGrafana) -> None:
    """The rest of the startup stays as it is."""
    climate = with_range(5)["climate"]
    air = {"topic": "testbed/acme/{device}/air", "fields": {"co2": {"type": "int"}}}
    await apply(grafana, config(acme(topics={"climate": climate, "air": air})))
    found = await plan(grafana, config(acme(topics={"climate": climate})), prune=True)
    assert [text for text in steps(found) if text.startswith("-")] == [
        "- grafana alert rule acme/acme-air-silent",
        "- grafana dashboard acme/acme-air",
    ]
    await apply(grafana, config(acme(topics={"climate": climate})), prune=True)
    assert set(grafana.org(ACME).dashboards) == {"acme-all-devices", "acme-climate"}


async def test_edited_or_filled_between_plan_and_prune_it_stays(grafana: FakeGrafana) -> None:
    """Each removal looks again."""
    await apply(grafana, config(acme(), startup("bolt")))
    async with server(grafana) as made:
        steps = diff(made.wanted(config(acme())), await made.actual(config(acme())), prune=True).steps
        grafana.edit_dashboard(BOLT, "bolt-climate", by="bolt", title="Ours")
        by_name = {(step.resource.kind, step.resource.name): step for step in steps}
        for kind, name, reported in (
            ("dashboard", "bolt/bolt-climate", "was edited by bolt in the meantime and stays"),
            ("folder", "bolt", "also holds the dashboard 'Ours'"),
            ("organisation", "bolt", "also holds the dashboard 'Ours'"),
        ):
            with pytest.raises(ProvisionError, match=reported):
                await made.apply(by_name[kind, name])
    assert "bolt-climate" in grafana.org(BOLT).dashboards
