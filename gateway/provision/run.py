"""Plan and apply on all servers of provision.yaml. If a step fails, earlier ones stay applied: the next plan shows the
rest.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.config import Config
from gateway.config.credentials import named_variable, store_setting
from gateway.errors import ProvisionError, SessionError
from gateway.mqtt.broker import Broker
from gateway.mqtt.broker_probe import probe
from gateway.mqtt.grants import Comparison, Needs
from gateway.provision.plan import Credential, Key, Plan, Server, Step, diff
from gateway.provision.secret_files import SecretFiles
from gateway.provision.settings import FILE_NAME, GrafanaAdmin, InfluxDBAdmin, MosquittoAdmin, ProvisionSettings, secret

if TYPE_CHECKING:
    from gateway.provision.mosquitto import MosquittoServer


@dataclass(frozen=True, slots=True)
class Applied:
    """Result of `apply`: the steps done, the credentials made, and the step that failed."""

    done: tuple[Step, ...]
    credentials: tuple[Credential, ...]
    failed: Step | None = None
    problem: str = ""


@asynccontextmanager
async def servers(config: Config, settings: ProvisionSettings) -> AsyncIterator[list[Server]]:
    """Connect to the servers to provision, in the order in which they need each other.

    Raises:
        SecretMissing: neither a file nor the environment has an admin's secret.
        ProvisionError: provision.yaml has a store that gateway.yaml does not have.
    """
    secret_files = SecretFiles(settings.secrets_dir)
    made: list[Server] = []
    if settings.mosquitto:
        made.append(await _mosquitto(settings.mosquitto, secret_files))
    owners: dict[str, str] = {}
    for store, influxdb in _influxdbs(config, settings).items():
        made.append(await asyncio.to_thread(_influxdb, config, influxdb, secret_files, store, owners))
    if settings.grafana:
        made.append(await asyncio.to_thread(_grafana, config, settings, settings.grafana, secret_files))
    try:
        yield made
    finally:
        await asyncio.gather(*(server.close() for server in made))


async def plan(config: Config, several: Sequence[Server], *, prune: bool = False) -> Plan:
    """Plan the steps on all servers.

    Raises:
        ProvisionError: a server does not answer, or rejects the admin.
    """
    parts: list[Plan] = []
    renewed: set[Key] = set()
    for server in several:
        actual = await server.actual(config)
        wanted = await asyncio.to_thread(server.wanted, config)
        waiting = parts[-1].waiting if parts else ()
        parts.append(diff(wanted, actual, prune=prune, renewed=renewed, waiting=waiting))
        renewed |= {step.resource.key for step in parts[-1].steps if step.action != "remove"}
    removals = [step for part in reversed(parts) for step in part.steps if step.action == "remove"]
    steps = [step for part in parts for step in part.steps if step.action != "remove"]
    return Plan(
        (*steps, *removals),
        tuple(conflict for part in parts for conflict in part.conflicts),
        tuple(resource for part in parts for resource in part.leftover),
        tuple(resource for part in parts for resource in part.stays),
    )


async def apply(wanted: Plan, several: Sequence[Server], report: Callable[[Step], None]) -> Applied:
    """Apply the steps in order, and call `report` after each.

    Stop at the first that fails or, when cancelled, before the next. The credentials made until then are returned,
    since they could not be shown later.
    """
    by_name = {server.name: server for server in several}
    done: list[Step] = []
    credentials: list[Credential] = []
    for step in wanted.steps:
        doing = asyncio.ensure_future(by_name[step.resource.server].apply(step))
        is_cancelled = await _finished(doing)
        try:
            credentials += doing.result()
        except ProvisionError as error:
            return Applied(tuple(done), tuple(credentials), step, str(error))
        done.append(step)
        report(step)
        if is_cancelled and len(done) < len(wanted.steps):
            return Applied(tuple(done), tuple(credentials), wanted.steps[len(done)], "interrupted")
    return Applied(tuple(done), tuple(credentials))


async def _finished(doing: asyncio.Future[list[Credential]]) -> bool:
    """Wait for a step to end in any way. Return whether a cancellation arrived in the meantime."""
    try:
        await asyncio.wait((doing,))
    except asyncio.CancelledError:
        await asyncio.wait((doing,))
        return True
    return False


async def new_password(several: Sequence[Server], startup: str, device: str) -> Credential:
    """Give a device's MQTT account a new password.

    Raises:
        ProvisionError: no Mosquitto is provisioned, or it rejects the request.
    """
    mosquitto = await asyncio.to_thread(_mosquitto_kind)
    for server in several:
        if isinstance(server, mosquitto):
            return await server.new_device_password(startup, device)
    raise ProvisionError("provision.yaml names no Mosquitto, so there are no MQTT accounts")


async def granted(config: Config, settings: ProvisionSettings) -> Comparison | None:
    """Return what the provisioned broker grants the gateway's account, against what the configuration needs; None
    where there is no broker, or the account cannot sign in yet."""
    admin = settings.mosquitto
    if admin is None:
        return None
    account = {"username": admin.gateway_user, "password_file": await asyncio.to_thread(_gateways_secret, settings)}
    mqtt = config.settings.mqtt.model_copy(update=account | {"url": admin.url, "ca_file": admin.ca_file})
    needs = Needs.of(config)
    try:
        return Comparison.of(needs, await probe(mqtt, needs))
    except SessionError:
        return None


def _influxdbs(config: Config, settings: ProvisionSettings) -> dict[str | None, InfluxDBAdmin]:
    """Return each InfluxDB by its store."""
    known = config.settings.stores
    if unknown := sorted(settings.stores.keys() - known.keys()):
        raise ProvisionError(
            f"{FILE_NAME}: stores: expected names under stores in gateway.yaml ({', '.join(known) or 'none yet'}); "
            f"got {', '.join(unknown)}"
        )
    several: list[tuple[str | None, InfluxDBAdmin | None]] = [(None, settings.influxdb), *settings.stores.items()]
    return {store: admin for store, admin in several if admin}


def _seen_by_grafana(config: Config, settings: ProvisionSettings, grafana: GrafanaAdmin, store: str | None) -> str:
    """Return the URL at which Grafana reaches the InfluxDB of a store."""
    if store is None:
        return grafana.influxdb_url
    admin = settings.stores.get(store)
    return admin.grafana_url or admin.url if admin else config.settings.stores[store].influxdb.url


# The servers' clients are optional (the extra `provision`) and slow to import, so each is imported where it is used; in
# threads, since imports and secrets read files.


async def _mosquitto(admin: MosquittoAdmin, secret_files: SecretFiles) -> Server:
    kind = await asyncio.to_thread(_mosquitto_kind)
    password = await asyncio.to_thread(
        secret, admin.password_file, "GATEWAY_PROVISION_MQTT_PASSWORD", "the password of Mosquitto's admin"
    )
    tls = None
    if admin.url.startswith("mqtts"):
        tls = await asyncio.to_thread(ssl.create_default_context, cafile=admin.ca_file)
    broker = Broker(admin.host, admin.port, tls)
    return kind(broker, admin.username, password, secret_files, gateway_user=admin.gateway_user)


def _mosquitto_kind() -> type[MosquittoServer]:
    from gateway.provision.mosquitto import MosquittoServer

    return MosquittoServer


def _gateways_secret(settings: ProvisionSettings) -> Path:
    from gateway.provision.mosquitto import GATEWAY_PASSWORD

    return SecretFiles(settings.secrets_dir).path(GATEWAY_PASSWORD)


def _influxdb(
    config: Config, admin: InfluxDBAdmin, secret_files: SecretFiles, store: str | None, owners: dict[str, str]
) -> Server:
    from gateway.provision.influxdb import InfluxDBServer

    variable = named_variable("GATEWAY_PROVISION_INFLUXDB_TOKEN", store)
    token = secret(admin.token_file, variable, f"an admin token of InfluxDB ({store_setting(store)})")
    return InfluxDBServer(config.settings.store_named(store).influxdb, admin.url, token, secret_files, store, owners)


def _grafana(config: Config, settings: ProvisionSettings, admin: GrafanaAdmin, secret_files: SecretFiles) -> Server:
    from gateway.provision.grafana import GrafanaServer
    from gateway.provision.grafana_accounts import GrafanaAccounts
    from gateway.provision.grafana_contents import Home
    from gateway.provision.influxdb import read_token_name, secret_name, server_name

    password = secret(admin.password_file, "GATEWAY_PROVISION_GRAFANA_PASSWORD", "the password of Grafana's admin")

    def home(slug: str) -> Home:
        store, name = config.by_slug[slug].store, read_token_name(slug)
        return Home(
            _seen_by_grafana(config, settings, admin, store),
            config.settings.store_named(store).influxdb.bucket.replace("{startup}", slug),
            secret_files.read(secret_name(name, store)),
            Key(server_name(store), "token", name),
        )

    return GrafanaServer(admin.url, admin.username, password, home, GrafanaAccounts(secret_files))
