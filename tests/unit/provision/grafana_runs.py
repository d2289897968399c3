"""Planning and applying at a Grafana, as the command line does, for the tests of several modules."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from gateway.config import Config, Startup
from gateway.provision.grafana import GrafanaServer
from gateway.provision.grafana_accounts import GrafanaAccounts
from gateway.provision.grafana_contents import Home
from gateway.provision.plan import Credential, Plan, diff
from gateway.provision.secret_files import SecretFiles
from tests.builders import startup
from tests.unit.provision.fake_grafana import ADMIN, PASSWORD, FakeGrafana

ACME, BOLT = "Acme (acme)", "Bolt (bolt)"
TOKENS = {"acme": "token-of-acme", "bolt": "token-of-bolt"}


class Kept(SecretFiles):
    """Secrets in memory, from one run of the command line to the next."""

    def __init__(self, kept: dict[str, str]) -> None:
        super().__init__(Path())
        self._kept = kept

    def read(self, name: str) -> str | None:
        return self._kept.get(name)

    def write(self, name: str, secret: str) -> None:
        self._kept[name] = secret


@asynccontextmanager
async def server(
    grafana: FakeGrafana, tokens: dict[str, str] | None = None, password: str = PASSWORD
) -> AsyncIterator[GrafanaServer]:
    known = TOKENS if tokens is None else tokens

    def home(slug: str) -> Home:
        return Home(f"http://influxdb-of-{slug}:8086", f"testbed-{slug}", known.get(slug))

    accounts = GrafanaAccounts(Kept(grafana.secrets))
    made = GrafanaServer(grafana.url, ADMIN, password, home, accounts)
    try:
        yield made
    finally:
        await made.close()


async def plan(grafana: FakeGrafana, wanted: Config, *, prune: bool = False) -> Plan:
    async with server(grafana) as made:
        return diff(made.wanted(wanted), await made.actual(wanted), prune=prune)


async def apply(
    grafana: FakeGrafana,
    wanted: Config,
    *,
    prune: bool = False,
    credentials: list[Credential] | None = None,
    tokens: dict[str, str] | None = None,
) -> list[Credential]:
    """Plan and apply, as the command line does. `credentials` keeps what was made before a failure."""
    credentials = [] if credentials is None else credentials
    async with server(grafana, tokens) as made:
        for step in diff(made.wanted(wanted), await made.actual(wanted), prune=prune).steps:
            credentials += await made.apply(step)
    grafana.index()
    return credentials


def steps(found: Plan) -> list[str]:
    """Return the steps of a plan as they are printed."""
    return [str(step) for step in found.steps]


def acme(**settings: Any) -> Startup:
    return startup("acme", **settings)


def with_range(highest: float) -> dict[str, Any]:
    """Return the topics of Acme, with a rule whose dashboard depends on `highest`."""
    value = {"type": "float", "max": highest}
    return {"climate": {"topic": "testbed/acme/{device}/climate", "fields": {"value": value}}}
