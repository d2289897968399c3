"""Organisations and users: each startup its own, those of somebody else left alone."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gateway.errors import AdminRejected, ProvisionError
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


@pytest.mark.parametrize(
    ("login", "name", "email"),
    [
        ("ana@acme.example", "", ""),
        ("Ana@ACME.example", "", ""),
        ("mallory", "Mallory", "ana@acme.example"),
        ("mallory", "Mallory", "ANA@acme.example"),
        ("ana@acme.example", "ana (test bed)", "mallory@example.org"),
    ],
)
async def test_an_account_that_was_there_is_not_taken_for_a_member(
    grafana: FakeGrafana, login: str, name: str, email: str
) -> None:
    """Whoever registers with a team's address, or calls an account so, gets into no organisation: it is a conflict."""
    account = grafana.add_account(login, name, email)
    wanted = config(acme(team=["Ana@Acme.example"]))
    found = await plan(grafana, wanted)
    assert ["user 'acme/ana@acme.example', which provisioning did not make" in str(one) for one in found.conflicts] == [
        True
    ]
    assert await apply(grafana, wanted) == []
    assert not any(account.id in org.roles for org in grafana.orgs.values())
    assert account.password == "secret"


async def test_an_account_that_an_operator_added_stays(grafana: FakeGrafana) -> None:
    """Somebody who knows whose it is has added it to the organisation: that is no conflict, and stays as it is."""
    wanted = config(acme(team=["ana@acme.example"]))
    grafana.add_account("ana", "Ana", "ana@acme.example")
    await apply(grafana, wanted)
    grafana.org(ACME).roles[grafana.account("ana").id] = "Viewer"
    assert (await plan(grafana, wanted)).is_done
    await apply(grafana, config(acme(team=["zoe@acme.example"])), prune=True)
    assert grafana.role(ACME, "ana") == "Viewer"


async def test_an_account_of_ours_is_known_whatever_its_owner_calls_it(grafana: FakeGrafana) -> None:
    """It keeps its access, and loses it with its place in the team."""
    wanted = config(acme(team=["ana@acme.example"]))
    await apply(grafana, wanted)
    account = grafana.account("ana@acme.example")
    account.login, account.email, account.name, account.last_seen = "nn", "nn@example.org", "NN", "2026-11-02T00:00:00Z"
    assert (await plan(grafana, wanted)).is_done
    await apply(grafana, config(acme(team=["zoe@acme.example"])), prune=True)
    assert account.id not in grafana.accounts


async def test_whoever_takes_the_name_of_a_member_gets_no_access(grafana: FakeGrafana) -> None:
    """A second startup's team gets the account that was made for the address, not the one that has it now."""
    await apply(grafana, config(acme(team=["ana@acme.example"])))
    ana = grafana.account("ana@acme.example")
    ana.login = ana.email = "nn@example.org"
    mallory = grafana.add_account("ana@acme.example")
    await apply(grafana, config(acme(team=["ana@acme.example"]), startup("bolt", team=["ana@acme.example"])))
    assert grafana.orgs_of("nn@example.org") == {ACME, BOLT}
    assert not any(mallory.id in org.roles for org in grafana.orgs.values())


async def test_an_answer_about_another_account_is_undone(grafana: FakeGrafana) -> None:
    """Grafana adds by login or address: where that finds somebody else, nobody is added, and the error says it."""
    await apply(grafana, config(acme(team=["ana@acme.example"])))
    mallory = grafana.add_account("mallory", "", "ANA@ACME.EXAMPLE")
    grafana.accounts = {mallory.id: mallory} | grafana.accounts  # it is found first
    with pytest.raises(ProvisionError, match="another account that answers to the login"):
        await apply(grafana, config(acme(team=["ana@acme.example"]), startup("bolt", team=["ana@acme.example"])))
    assert mallory.id not in grafana.org(BOLT).roles


async def test_the_ids_of_an_earlier_grafana_are_nobodys_here(grafana: FakeGrafana) -> None:
    """A Grafana that was set up anew gives the same ids to others."""
    await apply(grafana, config(acme(team=["ana@acme.example"])))
    stranger = grafana.account("ana@acme.example")
    stranger.login, stranger.email, stranger.created = "stranger", "stranger@example.org", "2026-11-20T00:00:00Z"
    grafana.org(ACME).roles.pop(stranger.id)
    (credential,) = await apply(grafana, config(acme(team=["ana@acme.example"])))
    assert grafana.role(ACME, "ana@acme.example") == "Editor"
    assert credential.name == "ana@acme.example"
    assert grafana.orgs_of("stranger") == set()


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
    with pytest.raises(AdminRejected, match="'admin' is not an Admin of Grafana's organisation"):
        await plan(grafana, config(acme()))


async def test_without_auto_assign_org_nothing_half_made_stays(fake: FakeGrafana) -> None:
    """Grafana would give each user an organisation; the error names the setting."""
    fake.auto_assign_org = False
    async with fake.running():
        with pytest.raises(ProvisionError, match="GF_USERS_AUTO_ASSIGN_ORG"):
            await apply(fake, config(acme()))
    assert [one.login for one in fake.accounts.values()] == [ADMIN]
