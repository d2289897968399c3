"""The real stack, named by environment variables: `make test-stack`. See docs/provisioning.md."""

from __future__ import annotations

import os
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

import pytest

VARIABLES = {
    "mqtt_url": "STACK_MQTT_URL",
    "influxdb_url": "STACK_INFLUXDB_URL",
    "influxdb_token": "STACK_INFLUXDB_TOKEN",
    "influxdb_org": "STACK_INFLUXDB_ORG",
    "grafana_url": "STACK_GRAFANA_URL",
    "grafana_user": "STACK_GRAFANA_USER",
    "grafana_password": "STACK_GRAFANA_PASSWORD",
}


@dataclass(frozen=True)
class Servers:
    """Where the servers are. With a user in the MQTT URL that is the admin of dynamic security, and accounts are
    provisioned; without one the broker lets everybody in."""

    mqtt_url: str
    influxdb_url: str
    influxdb_token: str
    influxdb_org: str
    grafana_url: str
    grafana_user: str
    grafana_password: str

    @property
    def mqtt_admin(self) -> tuple[str, str] | None:
        url = urlsplit(self.mqtt_url)
        return (unquote(url.username), unquote(url.password or "")) if url.username else None

    @property
    def mqtt_address(self) -> str:
        url = urlsplit(self.mqtt_url)
        return f"{url.scheme}://{url.hostname}:{url.port or 1883}"

    @property
    def mqtt_host(self) -> str:
        return urlsplit(self.mqtt_url).hostname or "localhost"

    @property
    def mqtt_port(self) -> int:
        return urlsplit(self.mqtt_url).port or 1883


@pytest.fixture(scope="session")
def servers() -> Servers:
    found = {name: os.environ.get(variable, "") for name, variable in VARIABLES.items()}
    if not found["mqtt_url"] or not found["influxdb_url"]:
        pytest.skip("no stack is named: set STACK_MQTT_URL, STACK_INFLUXDB_URL, … and run `make test-stack`")
    return Servers(**found)


@pytest.fixture(scope="session")
def grafana(servers: Servers) -> Servers:
    """The same, where Grafana is among them."""
    if not servers.grafana_url:
        pytest.skip("no Grafana is named: set STACK_GRAFANA_URL, STACK_GRAFANA_USER and STACK_GRAFANA_PASSWORD")
    return servers
