"""Organisations and users: each startup its own, those of somebody else left alone."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gateway.errors import AdminRefused, ProvisionError
from tests.builders import config, startup
from tests.unit.provision.fake_grafana import ADMIN, FakeGrafana
from tests.unit.provision.grafana_runs import ACME, BOLT, acme, apply, plan


@pytest.fixture(params=[11, 13])
def fake(request: pytest.FixtureRequest) -> FakeGrafana:
    """As old and as new as is supported."""
    return FakeGrafana(request.param)


@pytest.fixture
async def grafana(fake: FakeGrafana) -> AsyncIterator[FakeGrafana]:
    async with fake.running():
        yield fake


async def test_startups_share_no_organisation_user_or_data_source(grafana: FakeGrafana) -> None:
    """Each has its own, and its users see the main organisation as little as each other's."""
    credentials = await apply(grafana, config(acme(team=["ana@acme.example"]), startup("bolt")))
    assert {one.startup for one in credentials} == {"acme", "bolt"}
    assert grafana.orgs_of("ana@acme.example") == {ACME}
    assert grafana.orgs_of("bolt") == {BOLT}
    assert grafana.role(ACME, "ana@acme.example") == grafana.role(BOLT, "bolt") == "Editor"
    assert set(grafana.org(ACME).sources) == {"testbed-acme"}
    assert set(grafana.org(BOLT).sources) == {"testbed-bolt"}


async def test_a_new_user_signs_in_with_the_password_that_was_shown(grafana: FakeGrafana) -> None:
    """The credential is the account's, strong, and shown once."""
    (credential,) = await apply(grafana, config(acme(team=["ana@acme.example"])))
    assert credential[:3] == ("acme", "Grafana", "ana@acme.example")
    assert grafana.account("ana@acme.example").password == credential.secret
    assert len(credential.secret) >= 20


async def test_a_member_of_two_teams_is_added_to_the_second(grafana: FakeGrafana) -> None:
    """One account, one password, two organisations."""
    both = config(acme(team=["ana@example.org"]), startup("bolt", team=["ana@example.org"]))
    (credential,) = await apply(grafana, both)
    assert grafana.orgs_of("ana@example.org") == {ACME, BOLT}
    assert grafana.account("ana@example.org").password == credential.secret


async def test_an_account_that_was_there_is_added_and_keeps_its_password(grafana: FakeGrafana) -> None:
    """Also where its login is not its address, and its letters are of another case."""
    grafana.add_account("ana", "Ana", "ana@acme.example")
    assert await apply(grafana, config(acme(team=["Ana@Acme.example"]))) == []
    assert (grafana.role(ACME, "ana"), grafana.account("ana").password) == ("Editor", "secret")
    assert (await plan(grafana, config(acme(team=["Ana@Acme.example"])))).is_done


async def test_an_operator_in_the_team_stays_an_admin(grafana: FakeGrafana) -> None:
    """The account that provisions must not take its own rights away."""
    wanted = config(acme(team=["admin@localhost"]))
    await apply(grafana, wanted)
    assert grafana.role(ACME, ADMIN) == "Admin"
    assert (await plan(grafana, wanted)).is_done


async def test_an_account_of_the_slugs_name_that_is_somebody_elses_is_a_conflict(grafana: FakeGrafana) -> None:
    """A startup called like a person's login does not get that person."""
    grafana.add_account("acme", "Adam Acme")
    for _ in range(2):
        found = await plan(grafana, config(acme()))
        assert ["grafana already has a user 'acme/acme'" in str(one) for one in found.conflicts] == [True]
        await apply(grafana, config(acme()))
    assert grafana.orgs_of("acme") == set()


async def test_a_new_display_name_renames_the_organisation(grafana: FakeGrafana) -> None:
    """The slug in brackets is what an organisation is known by."""
    await apply(grafana, config(acme()))
    ident = grafana.org(ACME).id
    found = await plan(grafana, config(acme(name="Acme Air")))
    assert [(str(step), step.changes) for step in found.steps if "organisation" in str(step)] == [
        ("~ grafana organisation acme", ("name: Acme (acme) → Acme Air (acme)",))
    ]
    await apply(grafana, config(acme(name="Acme Air")))
    assert grafana.org("Acme Air (acme)").id == ident


@pytest.mark.parametrize("name", ["Something (acme)", "Acme (ACME)"])
async def test_an_organisation_of_that_name_with_other_things_in_it_is_left_alone(
    grafana: FakeGrafana, name: str
) -> None:
    """It is reported as a conflict, and nothing is planned in it."""
    grafana.add_org(name).folders["theirs"] = "Theirs"
    found = await plan(grafana, config(acme()), prune=True)
    assert [str(one.resource.key.name) for one in found.conflicts] == ["acme"]
    assert (found.steps, found.leftover) == ((), ())


async def test_an_empty_organisation_of_that_name_is_taken(grafana: FakeGrafana) -> None:
    """It is what a crash right after its creation leaves."""
    grafana.add_org(ACME)
    await apply(grafana, config(acme()))
    assert (await plan(grafana, config(acme()))).is_done


async def test_two_organisations_of_one_slug_are_reported(grafana: FakeGrafana) -> None:
    """Which of them is the startup's cannot be known."""
    grafana.add_org(ACME)
    grafana.add_org("Old (acme)")
    with pytest.raises(ProvisionError, match=r"'Acme \(acme\)' and 'Old \(acme\)'"):
        await plan(grafana, config(acme()))


async def test_an_organisation_without_the_admin_says_what_to_do(grafana: FakeGrafana) -> None:
    """Grafana's server admins see into no organisation that they are no member of."""
    grafana.add_org(ACME).roles.clear()
    with pytest.raises(AdminRefused, match="'admin' is not an Admin of Grafana's organisation"):
        await plan(grafana, config(acme()))


async def test_without_auto_assign_org_nothing_half_made_stays(fake: FakeGrafana) -> None:
    """Grafana would give each user an organisation; the error names the setting."""
    fake.auto_assign_org = False
    async with fake.running():
        with pytest.raises(ProvisionError, match="GF_USERS_AUTO_ASSIGN_ORG"):
            await apply(fake, config(acme()))
    assert [one.login for one in fake.accounts.values()] == [ADMIN]
