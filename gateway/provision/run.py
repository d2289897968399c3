"""Plan and apply over all servers that provision.yaml names. What was applied stays when a later step fails: the next
plan shows the rest.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from gateway.config import Config
from gateway.errors import ProvisionError
from gateway.provision.plan import Credential, Plan, Server, Step, diff
from gateway.provision.settings import GrafanaAdmin, InfluxDBAdmin, MosquittoAdmin, ProvisionSettings, secret
from gateway.provision.vault import Vault


@dataclass(frozen=True, slots=True)
class Applied:
    """What `apply` did, and the credentials that were made on the way. `failed` is the step that did not work."""

    done: tuple[Step, ...]
    credentials: tuple[Credential, ...]
    failed: Step | None = None
    problem: str = ""


@asynccontextmanager
async def servers(config: Config, settings: ProvisionSettings) -> AsyncIterator[list[Server]]:
    """The servers to provision, in the order in which they need each other.

    Raises:
        SecretMissing: an admin's secret is nowhere.
    """
    vault = Vault(settings.secrets_dir)
    made: list[Server] = []
    if settings.mosquitto:
        made.append(await _mosquitto(settings.mosquitto, vault))
    if settings.influxdb:
        made.append(await _influxdb(config, settings.influxdb, vault))
    if settings.grafana:
        made.append(await _grafana(config, settings.grafana, vault))
    try:
        yield made
    finally:
        await asyncio.gather(*(server.close() for server in made))


async def plan(config: Config, several: Sequence[Server], *, prune: bool = False) -> Plan:
    """What has to be done on all servers.

    Raises:
        ProvisionError: a server does not answer, or refuses the admin.
    """
    steps: list[Step] = []
    parts = [diff(server.wanted(config), await server.actual(config), prune=prune) for server in several]
    removals = [step for part in reversed(parts) for step in part.steps if step.action == "remove"]
    steps = [step for part in parts for step in part.steps if step.action != "remove"]
    return Plan(
        (*steps, *removals),
        tuple(conflict for part in parts for conflict in part.conflicts),
        tuple(resource for part in parts for resource in part.leftover),
    )


async def apply(wanted: Plan, several: Sequence[Server], told: Callable[[Step], None]) -> Applied:
    """Do the steps in order; `told` is called after each. Stops at the first that fails."""
    by_name = {server.name: server for server in several}
    done: list[Step] = []
    credentials: list[Credential] = []
    for step in wanted.steps:
        try:
            credentials += await by_name[step.resource.server].apply(step)
        except ProvisionError as error:
            return Applied(tuple(done), tuple(credentials), step, str(error))
        done.append(step)
        told(step)
    return Applied(tuple(done), tuple(credentials))


async def new_password(several: Sequence[Server], startup: str, device: str) -> Credential:
    """Give a device's MQTT account a new password.

    Raises:
        ProvisionError: no Mosquitto is provisioned, or it refuses.
    """
    from gateway.provision.mosquitto import MosquittoServer, account

    for server in several:
        if isinstance(server, MosquittoServer):
            return await server.new_password(startup, account(startup, device))
    raise ProvisionError("no Mosquitto is named in provision.yaml, so there are no MQTT accounts")


# The servers' clients are optional (the extra `provision`) and slow to import, so each is imported where it is used.


async def _mosquitto(admin: MosquittoAdmin, vault: Vault) -> Server:
    from gateway.provision.mosquitto import MosquittoServer

    password = await asyncio.to_thread(
        secret, admin.password_file, "GATEWAY_PROVISION_MQTT_PASSWORD", "the password of Mosquitto's admin"
    )
    tls = None
    if admin.url.startswith("mqtts"):
        tls = await asyncio.to_thread(ssl.create_default_context, cafile=admin.ca_file)
    return MosquittoServer(
        admin.host, admin.port, admin.username, password, vault, gateway_user=admin.gateway_user, tls=tls
    )


async def _influxdb(config: Config, admin: InfluxDBAdmin, vault: Vault) -> Server:
    from gateway.provision.influxdb import InfluxDBServer

    token = await asyncio.to_thread(
        secret, admin.token_file, "GATEWAY_PROVISION_INFLUXDB_TOKEN", "an admin token of InfluxDB"
    )
    return InfluxDBServer(config.settings.store.influxdb, admin.url, token, vault)


async def _grafana(config: Config, admin: GrafanaAdmin, vault: Vault) -> Server:
    from gateway.provision.grafana import GrafanaServer
    from gateway.provision.influxdb import read_token_name, vault_name

    password = await asyncio.to_thread(
        secret, admin.password_file, "GATEWAY_PROVISION_GRAFANA_PASSWORD", "the password of Grafana's admin"
    )
    return GrafanaServer(
        admin.url,
        admin.username,
        password,
        admin.influxdb_url,
        lambda slug: vault.read(vault_name(read_token_name(slug))),
        lambda slug: config.settings.store.influxdb.bucket.replace("{startup}", slug),
    )
