"""Two InfluxDB instances and a Grafana, by one provision.yaml: each startup has what it needs where its store is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import gateway.provision.grafana
import gateway.provision.influxdb  # noqa: F401  # `run` imports both in the event loop, where that blocks
from gateway.config import Config, load
from gateway.config.secrets import influxdb_token
from gateway.errors import ProvisionError, SecretMissing
from gateway.provision import run, show
from gateway.provision.plan import Plan, Server
from gateway.provision.settings import load_provision
from gateway.render import console
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
        vault = "../secrets/influxdb"
        settings = {
            "store": {
                "kind": "influxdb",
                "influxdb": {"url": self.default.url, "token_file": f"{vault}-gateway.token"},
            },
            "stores": {
                "east": {
                    "kind": "influxdb",
                    "influxdb": {
                        "url": self.east.url,
                        "bucket": "e-{startup}",
                        "token_file": f"{vault}.east-gateway.token",
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

    async def config(self) -> Config:
        return await asyncio.to_thread(load, self.directory)

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


async def test_grafana_reaches_a_store_as_provisioning_does_unless_told_otherwise(site: Site) -> None:
    """Without `grafana_url` the address of the store's entry counts."""
    await site.apply()
    assert site.grafana.org("Acme Air (birch)").sources["testbed-birch"]["url"] == site.east.url


async def test_a_startup_moves_to_another_instance(site: Site) -> None:
    """It gets a bucket there, both of the gateway's tokens follow, Grafana too; its old bucket and token are left over,
    told with their instance, until they are pruned there."""
    await site.apply()
    site.write_gateway(acme="east")
    plan = await site.plan()
    assert at_influxdb(plan) == [
        "~ influxdb token gateway",
        "+ influxdb.east bucket e-acme",
        "~ influxdb.east token gateway",
        "+ influxdb.east token read-acme",
    ]
    with (out := console()).capture() as told:
        out.print(show.plan(plan), soft_wrap=True)
    assert "only with --prune: influxdb bucket acme, influxdb token read-acme" in told.get()
    await site.apply()
    assert site.default.bucket("acme")
    assert site.grafana.org("Acme Air (acme)").sources["testbed-acme"]["url"] == site.east.url
    assert site.east.rights(await site.gateways_token("east")) >= {"write e-acme", "write e-birch"}
    assert await site.apply(prune=True) == ["- influxdb token read-acme", "- influxdb bucket acme"]
    assert (await site.plan(prune=True)).is_done


async def test_two_stores_of_one_instance_are_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would take the other's buckets for left over, and --prune delete them: nothing is planned."""
    monkeypatch.setenv("GATEWAY_PROVISION_INFLUXDB_TOKEN_EAST", TOKEN)
    site.write_provision({"east": {"url": site.default.url.replace("127.0.0.1", "localhost")}})
    with pytest.raises(ProvisionError, match=r"influxdb and influxdb\.east are one organisation of one InfluxDB"):
        await site.plan()


async def test_a_store_that_gateway_yaml_does_not_have_is_told(site: Site) -> None:
    """A misspelt name in provision.yaml makes no buckets anywhere; it is told with the names there are."""
    site.write_provision({"eest": {"url": site.east.url}})
    with pytest.raises(ProvisionError, match=r"names under stores in gateway\.yaml \(east\); got eest"):
        await site.plan()


async def test_each_instance_has_an_admin_token_of_its_own(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default store's admin token is not sent to another instance; what is missing is told with its variable."""
    monkeypatch.delenv("GATEWAY_PROVISION_INFLUXDB_TOKEN_EAST")
    with pytest.raises(SecretMissing, match=r"InfluxDB \(stores\.east\).*GATEWAY_PROVISION_INFLUXDB_TOKEN_EAST"):
        await site.plan()
    assert site.east.calls == []


async def test_an_instance_that_is_not_provisioned_is_left_alone(site: Site) -> None:
    """A store that provision.yaml does not name gets no bucket there, nor do its startups get one elsewhere."""
    site.write_provision({})
    assert [step for step in at_influxdb(await site.plan()) if "birch" in step or "east" in step] == []
    assert site.east.calls == []


async def test_what_is_missing_there_is_told_with_its_setting(site: Site) -> None:
    """An organisation that the further instance does not have is told with that store's own setting."""
    path = site.directory / "gateway.yaml"
    path.write_text(path.read_text().replace('"bucket": "e-{startup}"', '"org": "nobody"'))
    with pytest.raises(ProvisionError, match=r"'nobody': set stores\.east\.influxdb\.org"):
        await site.plan()
