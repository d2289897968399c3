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
from gateway.config.secrets import named_variable, store_setting
from gateway.errors import ProvisionError
from gateway.provision.plan import Credential, Plan, Server, Step, diff
from gateway.provision.settings import (
    FILE_NAME,
    GrafanaAdmin,
    InfluxDBAdmin,
    MosquittoAdmin,
    ProvisionSettings,
    secret,
)
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
        ProvisionError: provision.yaml has a store that gateway.yaml does not have.
    """
    vault = Vault(settings.secrets_dir)
    made: list[Server] = []
    if settings.mosquitto:
        made.append(await _mosquitto(settings.mosquitto, vault))
    owners: dict[str, str] = {}
    for store, influxdb in _influxdbs(config, settings).items():
        made.append(await _influxdb(config, influxdb, vault, store, owners))
    if settings.grafana:
        made.append(await _grafana(config, settings, settings.grafana, vault))
    try:
        yield made
    finally:
        await asyncio.gather(*(server.close() for server in made))


async def plan(config: Config, several: Sequence[Server], *, prune: bool = False) -> Plan:
    """What has to be done on all servers.

    Raises:
        ProvisionError: a server does not answer, or refuses the admin.
    """
    parts = [
        diff(await asyncio.to_thread(server.wanted, config), await server.actual(config), prune=prune)
        for server in several
    ]
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


def _influxdbs(config: Config, settings: ProvisionSettings) -> dict[str | None, InfluxDBAdmin]:
    """By the store that each is for."""
    known = config.settings.stores
    if unknown := sorted(settings.stores.keys() - known.keys()):
        raise ProvisionError(
            f"{FILE_NAME}: stores: expected names under stores in gateway.yaml ({', '.join(known) or 'none yet'}); "
            f"got {', '.join(unknown)}"
        )
    several: list[tuple[str | None, InfluxDBAdmin | None]] = [(None, settings.influxdb), *settings.stores.items()]
    return {store: admin for store, admin in several if admin}


def _seen_by_grafana(config: Config, settings: ProvisionSettings, grafana: GrafanaAdmin, store: str | None) -> str:
    """Where Grafana reaches the InfluxDB of a store."""
    if store is None:
        return grafana.influxdb_url
    admin = settings.stores.get(store)
    return admin.grafana_url or admin.url if admin else config.settings.stores[store].influxdb.url


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


async def _influxdb(
    config: Config, admin: InfluxDBAdmin, vault: Vault, store: str | None, owners: dict[str, str]
) -> Server:
    from gateway.provision.influxdb import InfluxDBServer

    variable = named_variable("GATEWAY_PROVISION_INFLUXDB_TOKEN", store)
    token = await asyncio.to_thread(
        secret, admin.token_file, variable, f"an admin token of InfluxDB ({store_setting(store)})"
    )
    return InfluxDBServer(config.settings.store_named(store).influxdb, admin.url, token, vault, store, owners)


async def _grafana(config: Config, settings: ProvisionSettings, admin: GrafanaAdmin, vault: Vault) -> Server:
    from gateway.provision.grafana import GrafanaServer
    from gateway.provision.grafana_contents import Home
    from gateway.provision.influxdb import read_token_name, vault_name

    password = await asyncio.to_thread(
        secret, admin.password_file, "GATEWAY_PROVISION_GRAFANA_PASSWORD", "the password of Grafana's admin"
    )

    def home(slug: str) -> Home:
        store = config.by_slug[slug].store
        return Home(
            _seen_by_grafana(config, settings, admin, store),
            config.settings.store_named(store).influxdb.bucket.replace("{startup}", slug),
            vault.read(vault_name(read_token_name(slug), store)),
        )

    return GrafanaServer(admin.url, admin.username, password, home)
