"""`make test-stack` leaves servers on which a gateway works already as they were."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gateway.config import Settings
from gateway.provision import run
from gateway.provision.mosquitto import GATEWAY_PASSWORD
from gateway.provision.plan import Plan
from gateway.provision.secret_files import SecretFiles
from gateway.provision.settings import InfluxDBAdmin, MosquittoAdmin, ProvisionSettings
from tests.builders import config, startup
from tests.servers.dynsec import ADMIN, ADMIN_PASSWORD, SecureMosquitto
from tests.stack.conftest import Servers
from tests.stack.stack import make_stack
from tests.unit.provision.fake_influxdb import ORG, TOKEN, FakeInfluxDB

CONFIG = config(startup("acme", devices=["d1"])).model_copy(
    update={"settings": Settings.model_validate({"store": {"influxdb": {"org": ORG}}})}
)


class TestBed:
    """A test bed that works, by its provision.yaml."""

    __test__ = False

    def __init__(self, directory: Path, broker: SecureMosquitto, influxdb: FakeInfluxDB) -> None:
        directory.mkdir()
        for name, secret in (("mqtt", ADMIN_PASSWORD), ("influxdb", TOKEN)):
            (directory / name).write_text(secret)
        mosquitto = MosquittoAdmin(
            url=f"mqtt://127.0.0.1:{broker.port}", username=ADMIN, password_file=directory / "mqtt"
        )
        self.settings = ProvisionSettings(
            secrets_dir=directory / "secrets",
            mosquitto=mosquitto,
            influxdb=InfluxDBAdmin(url=influxdb.url, token_file=directory / "influxdb"),
        )

    def gateways_secrets(self) -> list[str | None]:
        secret_files = SecretFiles(self.settings.secrets_dir)
        return [secret_files.read(GATEWAY_PASSWORD), secret_files.read("influxdb-gateway")]

    async def plan(self) -> Plan:
        async with run.servers(CONFIG, self.settings) as several:
            return await run.plan(CONFIG, several, prune=True)

    async def apply(self) -> None:
        async with run.servers(CONFIG, self.settings) as several:
            applied = await run.apply(await run.plan(CONFIG, several), several, lambda _step: None)
        assert applied.problem == ""


async def test_the_suite_leaves_a_test_bed_as_it_was(tmp_path: Path) -> None:
    """The gateway's account and token stay what they are, password and secret too, while the suite's startups are there
    and after; and nothing of the suite's is left."""
    async with SecureMosquitto(tmp_path / "mosquitto") as broker, FakeInfluxDB().running() as influxdb:
        bed = await asyncio.to_thread(TestBed, tmp_path / "bed", broker, influxdb)
        await bed.apply()
        kept = await asyncio.to_thread(bed.gateways_secrets)
        assert all(kept)
        url = f"mqtt://{ADMIN}:{ADMIN_PASSWORD}@127.0.0.1:{broker.port}"
        suite = await asyncio.to_thread(make_stack, Servers(url, influxdb.url, TOKEN, ORG, "", "", ""), tmp_path)
        assert (await suite.apply()).problem == ""
        assert (await suite.plan()).is_done
        assert {step.action for step in (await bed.plan()).steps} == {"remove"}
        await suite.remove_all()
        assert (await bed.plan()).is_done
        assert await asyncio.to_thread(bed.gateways_secrets) == kept
