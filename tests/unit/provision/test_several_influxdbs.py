"""Two InfluxDB instances and a Grafana, by one provision.yaml: each startup has what it needs where its store is."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.cli.rendering import console
from gateway.config import Config, load
from gateway.config.credentials import influxdb_token
from gateway.errors import ProvisionError, SecretMissing
from gateway.provision import cohorts, rendering, run
from gateway.provision.plan import Key, Plan, Server
from gateway.provision.settings import load_provision
from tests.builders import STARTUP, write_config
from tests.unit.provision.fake_grafana import PASSWORD, FakeGrafana
from tests.unit.provision.fake_influxdb import TOKEN, FakeInfluxDB

EAST_TOKEN = "admin-token-of-east"


class Site:
    """Two InfluxDB instances, a Grafana, and the configuration that names them: acme and bolt are in the default
    store, birch is in east."""

    def __init__(self, directory: Path, default: FakeInfluxDB, east: FakeInfluxDB, grafana: FakeGrafana) -> None:
        self.directory = directory
        self.default = default
        self.east = east
        self.grafana = grafana
        self.write_gateway()
        self.write_provision({"east": {"url": east.url}})

    def write_gateway(self, **stores: str) -> None:
        """gateway.yaml with the stores `store` and east, and startups in `stores`, where they are not as said above."""
        secret_files = "../secrets/influxdb"
        settings = {
            "store": {
                "kind": "influxdb",
                "influxdb": {"url": self.default.url, "token_file": f"{secret_files}-gateway.token"},
            },
            "stores": {
                "east": {
                    "kind": "influxdb",
                    "influxdb": {
                        "url": self.east.url,
                        "bucket": "e-{startup}",
                        "token_file": f"{secret_files}.east-gateway.token",
                    },
                }
            },
        }
        places = {"acme": "null", "bolt": "null", "birch": "east"} | stores
        texts = {slug: f"store: {store}\n" + STARTUP.replace("acme", slug) for slug, store in places.items()}
        write_config(self.directory, json.dumps(settings), **texts)

    def write_provision(self, stores: object) -> None:
        grafana = {"url": self.grafana.url, "influxdb_url": "http://seen-by-grafana:8086"}
        settings = {"influxdb": {"url": self.default.url}, "stores": stores, "grafana": grafana}
        (self.directory / "provision.yaml").write_text(json.dumps(settings))

    def end(self, slug: str) -> None:
        """From now on a startup's programme is over."""
        path = self.directory / "startups" / f"{slug}.yaml"
        path.write_text("until: 2026-01-01\n" + path.read_text())

    async def config(self) -> Config:
        """As the commands read it."""
        return (await asyncio.to_thread(load, self.directory)).active(time.time_ns())

    @asynccontextmanager
    async def servers(self) -> AsyncIterator[list[Server]]:
        """As the commands connect to them."""
        settings = await asyncio.to_thread(load_provision, self.directory)
        async with run.servers(await self.config(), settings) as servers:
            yield servers

    async def plan(self, *, prune: bool = False) -> Plan:
        """The whole plan, Grafana among it."""
        async with self.servers() as servers:
            return await run.plan(await self.config(), servers, prune=prune)

    async def apply(self, *, prune: bool = False) -> list[str]:
        """The steps at InfluxDB that were done; all of the plan were."""
        async with self.servers() as servers:
            plan = await run.plan(await self.config(), servers, prune=prune)
            applied = await run.apply(plan, servers, lambda _step: None)
        assert applied.problem == ""
        self.grafana.index()
        return at_influxdb(plan)

    async def gateways_token(self, store: str | None = None) -> str:
        """What the gateway would send to a store."""
        return await asyncio.to_thread(influxdb_token, (await self.config()).settings, store)

    def token(self, name: str) -> str:
        return (self.directory.parent / "secrets" / f"{name}.token").read_text().strip()


def at_influxdb(plan: Plan) -> list[str]:
    return [str(step) for step in plan.steps if " influxdb" in str(step)]


@pytest.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    monkeypatch.setenv("GATEWAY_PROVISION_INFLUXDB_TOKEN", TOKEN)
    monkeypatch.setenv("GATEWAY_PROVISION_INFLUXDB_TOKEN_EAST", EAST_TOKEN)
    monkeypatch.setenv("GATEWAY_PROVISION_GRAFANA_PASSWORD", PASSWORD)
    async with (
        FakeInfluxDB().running() as default,
        FakeInfluxDB(EAST_TOKEN).running() as east,
        FakeGrafana(13).running() as grafana,
    ):
        yield Site(tmp_path / "config", default, east, grafana)


async def test_a_plan_names_the_instance_of_each_step(site: Site) -> None:
    """From nothing every startup gets its bucket and token on its own instance, and the gateway a token on each."""
    assert at_influxdb(await site.plan()) == [
        "+ influxdb bucket acme",
        "+ influxdb bucket bolt",
        "+ influxdb token gateway",
        "+ influxdb token read-acme",
        "+ influxdb token read-bolt",
        "+ influxdb.east bucket e-birch",
        "+ influxdb.east token gateway",
        "+ influxdb.east token read-birch",
    ]


async def test_applied_once_there_is_nothing_to_do_anywhere(site: Site) -> None:
    """Each instance is as wanted after one run, and no instance takes what is on the other for left over."""
    await site.apply()
    plan = await site.plan(prune=True)
    assert (plan.steps, plan.conflicts, plan.leftover) == ((), (), ())


async def test_a_token_opens_its_own_instance_alone(site: Site) -> None:
    """The gateway has a token for each instance, found by the names in gateway.yaml; none knows the other's buckets."""
    await site.apply()
    default, east = await site.gateways_token(), await site.gateways_token("east")
    assert site.default.rights(default) == {"read acme", "write acme", "read bolt", "write bolt"}
    assert site.east.rights(east) == {"read e-birch", "write e-birch"}
    assert site.east.rights(default) == site.default.rights(east) == set()
    assert site.east.rights(site.token("influxdb.east-read-birch")) == {"read e-birch"}


async def test_grafana_looks_where_a_startups_store_is(site: Site) -> None:
    """A data source has the address, the bucket and the read token of its startup's own instance."""
    site.write_provision({"east": {"url": site.east.url, "grafana_url": "http://east-seen-by-grafana:8086"}})
    await site.apply()
    for slug, url, bucket, kept in (
        ("acme", "http://seen-by-grafana:8086", "acme", "influxdb-read-acme"),
        ("birch", "http://east-seen-by-grafana:8086", "e-birch", "influxdb.east-read-birch"),
    ):
        org = site.grafana.org(f"Acme Air ({slug})")
        source = org.sources[f"testbed-{slug}"]
        assert (source["url"], source["jsonData"]["dbName"]) == (url, bucket)
        assert org.secrets[f"testbed-{slug}"] == {"httpHeaderValue1": f"Token {site.token(kept)}"}


async def test_grafana_reaches_a_store_as_provisioning_does_unless_set(site: Site) -> None:
    """Without `grafana_url` the address of the store's entry counts."""
    await site.apply()
    assert site.grafana.org("Acme Air (birch)").sources["testbed-birch"]["url"] == site.east.url


async def test_a_startup_moves_to_another_instance(site: Site) -> None:
    """It gets a bucket there, both of the gateway's tokens follow, Grafana too; its old bucket and token are left over,
    shown with their instance, until they are pruned there."""
    await site.apply()
    site.write_gateway(acme="east")
    plan = await site.plan()
    assert at_influxdb(plan) == [
        "~ influxdb token gateway",
        "+ influxdb.east bucket e-acme",
        "~ influxdb.east token gateway",
        "+ influxdb.east token read-acme",
    ]
    with (out := console()).capture() as shown:
        out.print(rendering.plan(plan), soft_wrap=True)
    assert "only with --prune: influxdb bucket acme, influxdb token read-acme" in shown.get()
    await site.apply()
    assert site.default.bucket("acme")
    assert site.grafana.org("Acme Air (acme)").sources["testbed-acme"]["url"] == site.east.url
    assert site.east.rights(await site.gateways_token("east")) >= {"write e-acme", "write e-birch"}
    assert await site.apply(prune=True) == ["- influxdb token read-acme", "- influxdb bucket acme"]
    assert (await site.plan(prune=True)).is_done


async def test_an_ended_startup_keeps_its_data_on_its_own_instance(site: Site) -> None:
    """Who has reached the last day keeps the bucket where it is, and the gateway its rights to it, also when nobody
    else is left there. What a startup left on an instance before is left over as ever."""
    site.write_gateway(acme="east")
    await site.apply()
    site.write_gateway()
    await site.apply()  # acme goes back
    read = site.token("influxdb.east-read-birch")
    site.end("birch")
    site.end("acme")
    assert await site.apply(prune=True) == [
        "- influxdb.east token read-birch",
        "- influxdb.east token read-acme",
        "- influxdb.east bucket e-acme",
        "- influxdb token read-acme",
    ]
    assert site.east.rights(read) == set()
    assert site.east.rights(await site.gateways_token("east")) == {"read e-birch", "write e-birch"}
    assert site.default.rights(await site.gateways_token()) == {"read acme", "write acme", "read bolt", "write bolt"}
    assert (await site.plan(prune=True)).is_done


async def test_a_bucket_that_others_made_counts_on_its_own_instance(site: Site) -> None:
    """Nobody gets a right to a bucket of somebody else's, and Grafana no data source for it, on the instance where it
    is. A bucket of the same name on the other one is whose it is there. Nothing else waits for it."""
    site.east.make_bucket("e-birch", description="somebody's")
    site.east.make_bucket("acme", description="of nobody here")
    assert all("influxdb.east" not in step for step in await site.apply())
    assert "testbed-acme" in site.grafana.org("Acme Air (acme)").sources
    site.write_gateway(bolt="east")
    await site.apply()
    plan = await site.plan()
    assert [conflict.resource.key for conflict in plan.conflicts] == [Key("influxdb.east", "bucket", "e-birch")]
    assert plan.steps == ()
    assert site.east.rights(await site.gateways_token("east")) == {"read e-bolt", "write e-bolt"}
    assert site.default.rights(await site.gateways_token()) == {"read acme", "write acme"}
    assert "testbed-birch" not in site.grafana.org("Acme Air (birch)").sources


@pytest.mark.parametrize(("slug", "store"), [("acme", None), ("birch", "east")])
@pytest.mark.parametrize("how", ["revoked", "lost"])
async def test_a_read_token_that_is_made_anew_reaches_grafana_in_the_same_run(
    site: Site, slug: str, store: str | None, how: str
) -> None:
    """Revoked behind our back, or its file lost: the plan changes the data source too, and one apply does it all."""
    await site.apply()
    name, server = f"read-{slug}", "influxdb.east" if store else "influxdb"
    influxdb = site.east if store else site.default
    if how == "revoked":
        (found,) = [one for one in influxdb.authorizations.values() if f": {name} #" in one["description"]]
        influxdb.delete_token(found["id"])
    else:
        (site.directory.parent / "secrets" / f"{server}-{name}.token").unlink()
    plan = await site.plan()
    token, source = plan.steps
    assert token.resource.key == (server, "token", name)
    assert (str(source), source.changes) == (f"~ grafana data source {slug}", ("token: replaced",))
    await site.apply()
    assert (await site.plan(prune=True)).steps == ()
    sent = {"httpHeaderValue1": f"Token {site.token(f'{server}-{name}')}"}
    assert site.grafana.org(f"Acme Air ({slug})").secrets[f"testbed-{slug}"] == sent
    assert influxdb.rights(site.token(f"{server}-{name}")) == {f"read {'e-' if store else ''}{slug}"}


async def test_somebody_elses_organisation_is_not_touched_for_a_new_token(site: Site) -> None:
    """An organisation that is not ours stays a conflict and nothing else, also when a token is made."""
    site.grafana.add_org("Acme Air (ACME)")
    plan = await site.plan()
    assert "+ influxdb token read-acme" in at_influxdb(plan)
    assert [str(step) for step in plan.steps if step.resource.startup == "acme" and " grafana " in str(step)] == []
    assert [conflict.resource.name for conflict in plan.conflicts] == ["acme"]


async def test_a_bucket_of_somebody_else_is_not_shown_in_grafana(site: Site) -> None:
    """No data source and no alert looks at it, and whoever else has a place in Grafana gets it all the same."""
    site.default.make_bucket("acme", description="somebody's")
    assert [step for step in await site.apply() if "acme" in step] == []
    assert site.grafana.org("Acme Air (acme)").sources == site.grafana.org("Acme Air (acme)").rules == {}
    assert site.grafana.org("Acme Air (bolt)").sources
    plan = await site.plan(prune=True)
    assert (plan.steps, len(plan.conflicts)) == ((), 1)


async def test_a_startup_that_moved_loses_its_access_on_both_instances(site: Site) -> None:
    """Its read token on the old one goes with it, although only --prune would have removed that before. Its bucket
    there stays, even with --delete-data: what is in it was not exported now."""
    await site.apply()
    kept = site.token("influxdb-read-acme")
    site.write_gateway(acme="east")
    await site.apply()
    before = await site.config()
    after = Config(settings=before.settings, startups=tuple(one for one in before.startups if one.slug != "acme"))
    async with site.servers() as servers:
        plan = await cohorts.revocation(before, after, ["acme"], servers, delete_data=True)
        assert (await run.apply(plan, servers, lambda _step: None)).problem == ""
    assert Key("influxdb", "bucket", "acme") in {one.key for one in plan.leftover}
    assert site.default.rights(kept) == set()
    assert site.east.described("read-acme") == []
    assert {"acme", "bolt"} <= {one["name"] for one in site.default.buckets.values()}
    assert "e-acme" not in {one["name"] for one in site.east.buckets.values()}
    assert site.default.described("read-bolt")


async def test_two_stores_of_one_instance_are_rejected(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would take the other's buckets for left over, and --prune delete them: nothing is planned."""
    monkeypatch.setenv("GATEWAY_PROVISION_INFLUXDB_TOKEN_EAST", TOKEN)
    site.write_provision({"east": {"url": site.default.url.replace("127.0.0.1", "localhost")}})
    with pytest.raises(ProvisionError, match=r"influxdb and influxdb\.east are the same organisation of one InfluxDB"):
        await site.plan()


async def test_a_store_that_gateway_yaml_does_not_have_is_reported(site: Site) -> None:
    """A misspelt name in provision.yaml makes no buckets anywhere; it is reported with the names that exist."""
    site.write_provision({"eest": {"url": site.east.url}})
    with pytest.raises(ProvisionError, match=r"names under stores in gateway\.yaml \(east\); got eest"):
        await site.plan()


async def test_each_instance_has_an_admin_token_of_its_own(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default store's admin token is not sent to other instances; a missing one is reported with its variable."""
    monkeypatch.delenv("GATEWAY_PROVISION_INFLUXDB_TOKEN_EAST")
    with pytest.raises(SecretMissing, match=r"InfluxDB \(stores\.east\).*GATEWAY_PROVISION_INFLUXDB_TOKEN_EAST"):
        await site.plan()
    assert site.east.calls == []


async def test_an_instance_that_is_not_provisioned_is_left_alone(site: Site) -> None:
    """A store that provision.yaml does not name gets no bucket there, nor do its startups get one elsewhere."""
    site.write_provision({})
    assert [step for step in at_influxdb(await site.plan()) if "birch" in step or "east" in step] == []
    assert site.east.calls == []


async def test_a_missing_organisation_is_reported_with_its_setting(site: Site) -> None:
    """An organisation that the further instance does not have is reported with that store's own setting."""
    path = site.directory / "gateway.yaml"
    path.write_text(path.read_text().replace('"bucket": "e-{startup}"', '"org": "nobody"'))
    with pytest.raises(ProvisionError, match=r"'nobody': set stores\.east\.influxdb\.org"):
        await site.plan()
