"""A provisioned stack: two startups with random names, their accounts, buckets and dashboards, and its own gateway."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from gateway.config import Config, load
from gateway.provision import cohorts, influxdb, run
from gateway.provision.mosquitto import GATEWAY_PASSWORD, account
from gateway.provision.plan import Credential, Plan, Resource, Server, Step
from gateway.provision.run import Applied
from gateway.provision.secret_files import SecretFiles
from gateway.provision.settings import GrafanaAdmin, InfluxDBAdmin, MosquittoAdmin, ProvisionSettings
from tests.running import NO_LIMITS
from tests.servers import WITHIN
from tests.stack.conftest import Servers

RULE = """
topics:
  climate:
    topic: testbed/{slug}/{{device}}/climate
    time: {{from: /ts, unit: ms}}
    fields:
      temperature: {{from: /t, type: float, unit: celsius, min: -40, max: 125}}
      running: {{type: bool, required: false}}
"""


@dataclass
class Stack:
    """The provisioned stack: two startups with a device `d1` each."""

    servers: Servers
    settings: ProvisionSettings
    config: Config
    directory: Path
    slugs: tuple[str, str]
    gateway: str
    credentials: list[Credential] = field(default_factory=list)
    made: list[Resource] = field(default_factory=list)

    @property
    def secret_files(self) -> SecretFiles:
        return SecretFiles(self.settings.secrets_dir)

    def secret_of(self, name: str) -> str:
        return next(one.secret for one in self.credentials if one.name == name)

    def device(self, slug: str) -> aiomqtt.Client:
        user = account(slug, "d1")
        signed: dict[str, Any] = {"username": user, "password": self.secret_of(user)} if self.servers.mqtt_admin else {}
        return aiomqtt.Client(self.servers.mqtt_host, self.servers.mqtt_port, timeout=WITHIN, **signed)

    @asynccontextmanager
    async def provisioning(self) -> AsyncIterator[list[Server]]:
        """The servers, with the name of this stack's gateway. For InfluxDB that is no setting: two gateways in one
        organisation would take each other's buckets for left over."""
        with pytest.MonkeyPatch.context() as name:
            name.setattr(influxdb, "GATEWAY", self.gateway)
            async with run.servers(self.config, self.settings) as several:
                yield several

    async def plan(self) -> Plan:
        async with self.provisioning() as several:
            return await run.plan(self.config, several)

    async def apply(self) -> Applied:
        async with self.provisioning() as several:
            applied = await run.apply(await run.plan(self.config, several), several, lambda _step: None)
        self.made += [step.resource for step in applied.done if step.action == "create"]
        self.credentials += applied.credentials
        return applied

    async def remove_all(self) -> None:
        """Take away everything of the two startups, and what was made here for the gateway."""
        nobody = Config(settings=self.config.settings, startups=())
        gateways = tuple(Step("remove", resource) for resource in reversed(self.made) if not resource.startup)
        async with self.provisioning() as several:
            plan = await cohorts.revocation(self.config, nobody, self.slugs, several, delete_data=True)
            applied = await run.apply(Plan((*plan.steps, *gateways)), several, lambda _step: None)
        assert applied.problem == ""


def make_stack(servers: Servers, directory: Path) -> Stack:
    """Write the configuration of a stack on these servers; nothing is provisioned yet."""
    slugs = (f"stack-a{secrets.token_hex(3)}", f"stack-b{secrets.token_hex(3)}")
    gateway = f"stack-g{secrets.token_hex(3)}"
    settings = _settings(servers, directory, gateway)
    config = directory / "config"
    (config / "startups").mkdir(parents=True)
    for slug in slugs:
        head = f"name: {slug.title()}\ndevices: [d1]\nquota: {{messages: {NO_LIMITS['messages']}}}\n"
        (config / "startups" / f"{slug}.yaml").write_text(head + RULE.format(slug=slug))
    signed = f"\n  username: {gateway}\n  password_file: {settings.secrets_dir}/{GATEWAY_PASSWORD}.token"
    (config / "gateway.yaml").write_text(f"""
state_dir: {directory}/state
mqtt:
  url: {servers.mqtt_address}
  client_id: {gateway}{signed if servers.mqtt_admin else ""}
store:
  kind: influxdb
  influxdb:
    url: {servers.influxdb_url}
    org: {servers.influxdb_org}
    token_file: {settings.secrets_dir}/influxdb-{gateway}.token
http: {{listen: "127.0.0.1:0", console: false}}
drain: {{interval: 50ms}}
""")
    return Stack(servers, settings, load(config), config, slugs, gateway)


def _settings(servers: Servers, directory: Path, gateway: str) -> ProvisionSettings:
    """Every server that is named, with its admin's secret in a file."""

    def kept(name: str, secret: str) -> Path:
        path = directory / name
        path.write_text(secret)
        return path

    mosquitto = grafana = None
    if servers.mqtt_admin:
        user, password = servers.mqtt_admin
        file = kept("mqtt-admin", password)
        mosquitto = MosquittoAdmin(url=servers.mqtt_address, username=user, password_file=file, gateway_user=gateway)
    if servers.grafana_url:
        file = kept("grafana-admin", servers.grafana_password)
        grafana = GrafanaAdmin(
            url=servers.grafana_url,
            username=servers.grafana_user,
            password_file=file,
            influxdb_url=servers.influxdb_url,
        )
    influxdb = InfluxDBAdmin(url=servers.influxdb_url, token_file=kept("influxdb-admin", servers.influxdb_token))
    return ProvisionSettings(secrets_dir=directory / "secrets", mosquitto=mosquitto, influxdb=influxdb, grafana=grafana)
