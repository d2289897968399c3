"""`InfluxDBServer` against a fake InfluxDB: from nothing, again, changed, half-way, beside others, and back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.config import Config
from gateway.config.models import InfluxDB
from gateway.errors import AdminRejected, ProvisionError, ServerUnreachable
from gateway.provision import cohorts, run
from gateway.provision.influxdb import InfluxDBServer
from gateway.provision.plan import MARK, Plan
from gateway.provision.run import Applied
from gateway.provision.secret_files import SecretFiles
from tests.builders import config, startup
from tests.servers import free_port
from tests.unit.provision.fake_influxdb import DAY, HOUR, TOKEN, FakeInfluxDB

TWO = config(startup("acme", retention="90d"), startup("bolt", retention="30d"))
ONE = config(startup("acme", retention="90d"))
BOTH = {"read tb-acme", "write tb-acme", "read tb-bolt", "write tb-bolt"}


class Site:
    """A fake InfluxDB, and the secret files of its provisioning."""

    def __init__(self, influxdb: FakeInfluxDB, secret_files: SecretFiles) -> None:
        self.influxdb = influxdb
        self.secret_files = secret_files

    @asynccontextmanager
    async def server(self, url: str = "", token: str = TOKEN, org: str = "testbed") -> AsyncIterator[InfluxDBServer]:
        settings = InfluxDB(org=org, bucket="tb-{startup}")
        made = InfluxDBServer(settings, url or self.influxdb.url, token, self.secret_files)
        try:
            yield made
        finally:
            await made.close()

    async def plan(self, wanted: Config = TWO, *, prune: bool = False) -> Plan:
        async with self.server() as server:
            return await run.plan(wanted, [server], prune=prune)

    async def try_to_apply(self, wanted: Config = TWO, *, prune: bool = False) -> Applied:
        async with self.server() as server:
            plan = await run.plan(wanted, [server], prune=prune)
            return await run.apply(plan, [server], lambda _step: None)

    async def apply(self, wanted: Config = TWO, *, prune: bool = False) -> list[str]:
        """The steps that were done; all of them were."""
        applied = await self.try_to_apply(wanted, prune=prune)
        assert applied.problem == ""
        assert applied.credentials == ()
        return [str(step) for step in applied.done]

    async def secret(self, name: str) -> str | None:
        return await asyncio.to_thread(self.secret_files.read, f"influxdb-{name}")

    async def rights(self, name: str) -> set[str]:
        """What the token that is kept may do."""
        return self.influxdb.rights(await self.secret(name))


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with FakeInfluxDB().running() as influxdb:
        yield Site(influxdb, SecretFiles(tmp_path / "secrets"))


def lines(plan: Plan) -> list[str]:
    return [str(step) for step in plan.steps]


async def test_the_first_apply_creates_buckets_and_tokens(site: Site) -> None:
    """A bucket a startup with its retention, one token that reads and writes all, and a token a startup that reads its
    own bucket alone; the tokens are in secret files and shown to nobody."""
    assert await site.apply() == [
        "+ influxdb bucket tb-acme",
        "+ influxdb bucket tb-bolt",
        "+ influxdb token gateway",
        "+ influxdb token read-acme",
        "+ influxdb token read-bolt",
    ]
    assert site.influxdb.retention("tb-acme") == 90 * DAY
    assert site.influxdb.retention("tb-bolt") == 30 * DAY
    assert await site.rights("gateway") == BOTH
    assert await site.rights("read-acme") == {"read tb-acme"}
    assert await site.rights("read-bolt") == {"read tb-bolt"}


async def test_a_plan_shows_and_changes_nothing(site: Site) -> None:
    """A plan says what a bucket and a token will be, and asks the server only questions."""
    plan = await site.plan()
    assert plan.steps[0].changes == (f"retention_s: {90 * DAY}",)
    assert "permissions: read tb-acme" in plan.steps[2].changes
    assert {method for method, _ in site.influxdb.calls} == {"GET"}


async def test_applied_again_there_are_no_steps(site: Site) -> None:
    """What was applied is not planned again, and applying it again changes nothing."""
    await site.apply()
    before = await site.secret("gateway")
    assert (await site.plan()).is_done
    assert await site.apply() == []
    assert await site.secret("gateway") == before


@pytest.mark.parametrize(("retention", "seconds"), [("1d", DAY), ("1h", HOUR), ("180d", 180 * DAY), ("1y", 365 * DAY)])
async def test_a_changed_retention_is_one_update(site: Site, retention: str, seconds: int) -> None:
    """Another retention, even shorter than the shards of the old one, changes the bucket and nothing else."""
    await site.apply(ONE)
    ident = site.influxdb.bucket("tb-acme")["id"]
    shorter = config(startup("acme", retention=retention))
    plan = await site.plan(shorter)
    assert lines(plan) == ["~ influxdb bucket tb-acme"]
    assert plan.steps[0].changes == (f"retention_s: {90 * DAY} → {seconds}",)
    await site.apply(shorter)
    assert site.influxdb.retention("tb-acme") == seconds
    assert site.influxdb.bucket("tb-acme")["id"] == ident
    assert (await site.plan(shorter)).is_done


@pytest.mark.parametrize(("retention", "hours"), [("1d", 1), ("30d", 24), ("1y", 7 * 24)])
async def test_shards_fit_a_changed_retention(site: Site, retention: str, hours: int) -> None:
    """After a change the bucket's shards are as long as InfluxDB would choose for a new bucket."""
    await site.apply(config(startup("acme", retention="2h")))
    await site.apply(config(startup("acme", retention=retention)))
    (rule,) = site.influxdb.bucket("tb-acme")["retentionRules"]
    assert rule["shardGroupDurationSeconds"] == hours * HOUR


async def test_a_new_startup_widens_the_gateways_token(site: Site) -> None:
    """For another startup the gateway's token is replaced by one with wider permissions, and the old one is gone; the
    other startup's read token stays."""
    await site.apply(ONE)
    old, read = await site.secret("gateway"), await site.secret("read-acme")
    assert lines(await site.plan()) == [
        "+ influxdb bucket tb-bolt",
        "~ influxdb token gateway",
        "+ influxdb token read-bolt",
    ]
    await site.apply()
    assert await site.rights("gateway") == BOTH
    assert site.influxdb.rights(old) == set()
    assert await site.secret("read-acme") == read


class FullVault(SecretFiles):
    """Secret files on a full disk."""

    def write(self, name: str, secret: str) -> None:
        raise ProvisionError("the disk is full")


async def test_the_old_token_ends_after_the_new_one_is_kept(site: Site) -> None:
    """Where the new token cannot be kept the old one still works and the failure is reported; once it can, the next run
    goes on and leaves one token."""
    await site.apply(ONE)
    old = await site.secret("gateway")
    roomy, site.secret_files = site.secret_files, FullVault(site.secret_files.directory)
    failed = await site.try_to_apply()
    assert failed.problem == "the disk is full"
    assert str(failed.failed) == "~ influxdb token gateway"
    assert site.influxdb.rights(old) == {"read tb-acme", "write tb-acme"}
    site.secret_files = roomy
    await site.apply(prune=True)
    assert await site.rights("gateway") == BOTH
    assert len(site.influxdb.described(f"{MARK}: gateway")) == 1
    assert (await site.plan(prune=True)).is_done


@pytest.mark.parametrize("is_listed_first", [True, False])
async def test_a_token_left_from_a_broken_run_is_reported(site: Site, is_listed_first: bool) -> None:
    """A token of ours beside the one that is kept, wherever the server lists it, is a leftover; --prune removes it and
    keeps the good one."""
    await site.apply()
    stale = site.influxdb.make_token(f"{MARK}: gateway #0123456789ab", [])["id"]
    if is_listed_first:
        authorizations = site.influxdb.authorizations
        site.influxdb.authorizations = {stale: authorizations.pop(stale), **authorizations}
    plan = await site.plan()
    assert plan.steps == ()
    assert [resource.name for resource in plan.leftover] == [f"gateway {stale}"]
    assert await site.apply(prune=True) == [f"- influxdb token gateway {stale}"]
    assert site.influxdb.described(f"{MARK}: gateway") == site.influxdb.described("gateway #")
    assert await site.rights("gateway") == BOTH


async def test_a_renewed_token_deletes_the_stale_ones(site: Site) -> None:
    """Where a token must be replaced and a stale one is pruned in the same run, one token is left."""
    await site.apply(ONE)
    site.influxdb.make_token(f"{MARK}: gateway", [])
    await site.apply(prune=True)
    assert len(site.influxdb.described(f"{MARK}: gateway")) == 1
    assert await site.rights("gateway") == BOTH


@pytest.mark.parametrize("name", ["gateway", "read-acme"])
async def test_a_lost_file_is_replaced(site: Site, name: str) -> None:
    """A token whose secret file is gone shows in the plan; apply makes another, and deletes the lost one."""
    await site.apply()
    lost = await site.secret(name)
    await asyncio.to_thread(site.secret_files.forget, f"influxdb-{name}")
    plan = await site.plan()
    assert lines(plan) == [f"~ influxdb token {name}"]
    assert plan.steps[0].changes == ("secret_kept: False → True",)
    await site.apply()
    assert await site.rights(name) != set()
    assert site.influxdb.rights(lost) == set()
    assert (await site.plan(prune=True)).is_done


async def test_a_file_with_another_secret_is_replaced(site: Site) -> None:
    """A secret file that does not hold the token of the server shows as well."""
    await site.apply()
    await asyncio.to_thread(site.secret_files.write, "influxdb-read-acme", "something else")
    assert await site.apply() == ["~ influxdb token read-acme"]
    assert await site.rights("read-acme") == {"read tb-acme"}


async def test_a_token_deleted_behind_our_back_is_replaced(site: Site) -> None:
    """A token that somebody deleted on the server is planned and made, though its file is still there."""
    await site.apply()
    (ident,) = site.influxdb.described(": read-bolt #")
    site.influxdb.delete_token(ident)
    assert await site.apply() == ["+ influxdb token read-bolt"]
    assert await site.rights("read-bolt") == {"read tb-bolt"}
    assert (await site.plan()).is_done


async def test_a_token_switched_off_behind_our_back_is_replaced(site: Site) -> None:
    """An inactive token shows in the plan, and an active one takes its place."""
    await site.apply()
    (ident,) = site.influxdb.described(": read-bolt #")
    site.influxdb.authorizations[ident]["status"] = "inactive"
    assert (await site.plan()).steps[0].changes == ("status: inactive → active",)
    await site.apply()
    assert (await site.plan()).is_done
    assert ident not in site.influxdb.authorizations


async def test_a_bucket_that_others_made_is_a_conflict(site: Site) -> None:
    """A bucket of a wanted name without our mark is reported and left as it is."""
    site.influxdb.make_bucket("tb-acme", DAY, description="somebody's")
    plan = await site.plan()
    (conflict,) = plan.conflicts
    assert "influxdb already has a bucket 'tb-acme'" in str(conflict)
    assert not plan.is_done
    assert "+ influxdb bucket tb-acme" not in lines(plan)
    assert site.influxdb.retention("tb-acme") == DAY


async def test_no_token_opens_a_bucket_that_others_made(site: Site) -> None:
    """Neither the startup of that name nor the gateway gets at what somebody else keeps there; the others are served.
    When it is out of the way, the startup gets all that it lacks."""
    ident = site.influxdb.make_bucket("tb-acme", DAY, description="somebody's")
    for _ in range(2):
        await site.apply()
        assert await site.rights("gateway") == {"read tb-bolt", "write tb-bolt"}
        assert await site.rights("read-bolt") == {"read tb-bolt"}
        assert site.influxdb.described("read-acme") == []
    assert lines(await site.plan()) == []
    del site.influxdb.buckets[ident]
    assert await site.apply() == ["+ influxdb bucket tb-acme", "~ influxdb token gateway", "+ influxdb token read-acme"]
    assert (await site.plan(prune=True)).is_done


async def test_no_token_opens_a_bucket_that_was_replaced_by_others(site: Site) -> None:
    """A permission that the gateway already has is revoked."""
    await site.apply()
    old = await site.secret("gateway")
    site.influxdb.bucket("tb-acme")["description"] = "somebody's now"
    assert await site.apply() == ["~ influxdb token gateway"]
    assert await site.rights("gateway") == {"read tb-bolt", "write tb-bolt"}
    assert site.influxdb.rights(old) == set()


async def test_a_bucket_with_the_name_of_a_token_is_not_a_conflict(site: Site) -> None:
    """Names are compared among what is of one kind."""
    site.influxdb.make_bucket("gateway", description="of nobody here")
    await site.apply()
    assert (await site.plan()).is_done


async def test_more_buckets_than_a_page(site: Site) -> None:
    """With hundreds of buckets those of ours are found on whatever page they are."""
    for number in range(230):
        site.influxdb.make_bucket(f"others-{number}")
    await site.apply()
    assert (await site.plan()).is_done
    assert ("GET", "/api/v2/buckets") in site.influxdb.calls


async def test_only_prune_removes_and_only_ours(site: Site) -> None:
    """What a startup that is gone had is left over; --prune removes its bucket, token and file, and nothing that others
    made."""
    other = site.influxdb.make_token("made by hand", [])["id"]
    site.influxdb.make_bucket("by-hand")
    await site.apply()
    plan = await site.plan(ONE)
    assert {resource.name for resource in plan.leftover} == {"tb-bolt", "read-bolt"}
    assert await site.apply(ONE) == ["~ influxdb token gateway"]
    read = await site.secret("read-bolt")
    assert site.influxdb.rights(read) == {"read tb-bolt"}
    assert await site.apply(ONE, prune=True) == ["- influxdb token read-bolt", "- influxdb bucket tb-bolt"]
    assert site.influxdb.rights(read) == set()
    assert await site.secret("read-bolt") is None
    assert {bucket["name"] for bucket in site.influxdb.buckets.values()} >= {"by-hand", "_tasks", "tb-acme"}
    assert "tb-bolt" not in {bucket["name"] for bucket in site.influxdb.buckets.values()}
    assert other in site.influxdb.authorizations


async def test_an_ended_startup_keeps_its_data(site: Site) -> None:
    """Who has reached the last day loses the read token. The bucket stays, also with --prune, and the gateway may still
    read it, for the export, and write what waits in the journal; also with a new token, and when nobody else is
    left."""
    await site.apply()
    read = await site.secret("read-bolt")
    ended = Config(settings=TWO.settings, startups=ONE.startups, ended=TWO.startups[1:])
    assert await site.apply(ended, prune=True) == ["- influxdb token read-bolt"]
    assert site.influxdb.rights(read) == set()
    assert await site.rights("gateway") == BOTH
    await asyncio.to_thread(site.secret_files.forget, "influxdb-gateway")
    assert await site.apply(ended) == ["~ influxdb token gateway"]
    assert await site.rights("gateway") == BOTH
    nobody = Config(settings=TWO.settings, startups=(), ended=TWO.startups)
    assert await site.apply(nobody, prune=True) == ["- influxdb token read-acme"]
    assert await site.rights("gateway") == BOTH
    await site.apply()
    assert (await site.plan()).is_done


@pytest.mark.parametrize("delete_data", [False, True])
async def test_a_closed_cohort_keeps_its_data_unless_deletion_is_requested(site: Site, delete_data: bool) -> None:
    """Only with `delete_data` does the bucket go, and with it the gateway's rights to it."""
    await site.apply()
    ended = Config(settings=TWO.settings, startups=ONE.startups, ended=TWO.startups[1:])
    async with site.server() as server:
        plan = await cohorts.revocation(TWO, ended, ["bolt"], [server], delete_data=delete_data)
        applied = await run.apply(plan, [server], lambda _step: None)
    assert applied.problem == ""
    assert {"read tb-bolt", "write tb-bolt"} <= await site.rights("gateway") or delete_data
    assert ("tb-bolt" in {bucket["name"] for bucket in site.influxdb.buckets.values()}) is not delete_data
    assert (await site.plan(ended, prune=True)).is_done


async def test_an_ended_startup_without_data_gets_nothing(site: Site) -> None:
    """Nothing is made for who has ended already."""
    assert await site.apply(Config(settings=TWO.settings, startups=(), ended=TWO.startups)) == []


async def test_what_vanishes_before_its_removal_is_not_a_failure(site: Site) -> None:
    """A bucket and a token that somebody deletes between plan and apply are as gone as they should be."""
    await site.apply()
    async with site.server() as server:
        plan = await run.plan(ONE, [server], prune=True)
        del site.influxdb.buckets[site.influxdb.bucket("tb-bolt")["id"]]
        site.influxdb.delete_token(site.influxdb.described(": read-bolt #")[0])
        applied = await run.apply(plan, [server], lambda _step: None)
    assert applied.problem == ""
    assert (await site.plan(ONE, prune=True)).is_done


async def test_removal_of_the_last_startup_prunes_everything_of_ours(site: Site) -> None:
    """Without any startup there is no token to make: all of ours is pruned."""
    await site.apply()
    nobody = Config(settings=TWO.settings, startups=())
    await site.apply(nobody, prune=True)
    assert site.influxdb.described(MARK) == []
    assert (await site.plan(nobody)).is_done


async def test_wrong_admin_token_is_reported(site: Site) -> None:
    """The error says that the admin token was rejected, and where."""
    async with site.server(token="wrong") as server:
        with pytest.raises(AdminRejected, match=f"{site.influxdb.url} rejected the admin token .401 unauthorized"):
            await server.actual(TWO)


async def test_unreachable_influxdb_is_reported(site: Site) -> None:
    """The error says where nobody answered."""
    url = f"http://127.0.0.1:{free_port()}"
    async with site.server(url=url) as server:
        with pytest.raises(ServerUnreachable, match=f"no InfluxDB answers at {url}"):
            await server.actual(TWO)


async def test_an_unknown_organisation_is_reported(site: Site) -> None:
    """The error names the organisation and the setting that names it."""
    async with site.server(org="nobody") as server:
        with pytest.raises(ProvisionError, match="no organisation 'nobody': set store.influxdb.org"):
            await server.actual(TWO)


async def test_a_rejection_by_influxdb_is_reported(site: Site) -> None:
    """A bucket that somebody made since the plan: the error carries InfluxDB's own words."""
    async with site.server() as server:
        plan = await run.plan(ONE, [server], prune=False)
        site.influxdb.make_bucket("tb-acme")
        applied = await run.apply(plan, [server], lambda _step: None)
    assert applied.problem == (f"InfluxDB at {site.influxdb.url} answered 422: bucket with name tb-acme already exists")


@pytest.mark.parametrize(
    ("failing", "done"),
    [
        (("POST", "/api/v2/buckets"), 0),
        (("POST", "/api/v2/authorizations"), 2),
        (("PATCH", "/api/v2/authorizations"), 2),
    ],
)
async def test_a_failed_run_is_continued_by_the_next(site: Site, failing: tuple[str, str], done: int) -> None:
    """Where the server fails once the run stops and says so; the next plan shows the rest, and applies it."""
    names = lines(await site.plan())
    site.influxdb.fail_once.append(failing)
    failed = await site.try_to_apply()
    assert len(failed.done) == done
    assert failed.problem == f"InfluxDB at {site.influxdb.url} answered 500: something went wrong"
    rest = await site.plan()
    assert [line[2:] for line in lines(rest)] == [line[2:] for line in names[done:]]
    await site.apply()
    assert (await site.plan(prune=True)).is_done
    assert await site.rights("gateway") == BOTH


async def test_an_old_token_that_cannot_be_deleted_is_left_over(site: Site) -> None:
    """Where the old token's deletion fails the new one is in use, and the old one is reported until it is pruned."""
    await site.apply(ONE)
    site.influxdb.fail_once.append(("DELETE", "/api/v2/authorizations"))
    failed = await site.try_to_apply()
    assert str(failed.failed) == "~ influxdb token gateway"
    assert await site.rights("gateway") == BOTH
    assert await site.apply() == ["+ influxdb token read-bolt"]
    assert len((await site.plan()).leftover) == 1
    await site.apply(prune=True)
    assert len(site.influxdb.described(f"{MARK}: gateway")) == 1
    assert (await site.plan(prune=True)).is_done
