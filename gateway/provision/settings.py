"""Settings of provision.yaml: the servers that provisioning manages, and where its secrets are.

Admin secrets are in the files that it names or in environment variables, as in gateway.yaml. A server that is not named
is left alone.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

from gateway.config import Config
from gateway.config.credentials import find
from gateway.config.load import read_file
from gateway.config.notations import PathField, Slug, matching
from gateway.errors import ProvisionError, SecretMissing

FILE_NAME = "provision.yaml"
_HTTP = matching(r"https?://\S+", "a URL such as http://localhost:3000")


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MosquittoAdmin(_Model):
    """Mosquitto, whose admin API is MQTT itself. `gateway_user` is the gateway's account."""

    url: Annotated[str, matching(r"mqtts?://[^\s/@:]+(:(?P<port>\d{1,5}))?/?", "a URL such as mqtt://host:1883")]
    username: str = "admin"
    password_file: PathField | None = None
    ca_file: PathField | None = None
    gateway_user: str = "gateway"

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or "localhost"

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or (8883 if self.url.startswith("mqtts") else 1883)


class InfluxDBAdmin(_Model):
    """InfluxDB; organisation and bucket names are those of gateway.yaml."""

    url: Annotated[str, _HTTP]
    token_file: PathField | None = None


class StoreAdmin(InfluxDBAdmin):
    """InfluxDB of one of `stores` in gateway.yaml. `grafana_url` is where Grafana itself reaches it."""

    grafana_url: str = ""


class GrafanaAdmin(_Model):
    """Grafana, with the account of a server admin.

    `influxdb_url` is where Grafana itself reaches the InfluxDB of the default store; `public_url` is for people.
    """

    url: Annotated[str, _HTTP]
    username: str = "admin"
    password_file: PathField | None = None
    influxdb_url: Annotated[str, _HTTP]
    public_url: str = ""


class ProvisionSettings(_Model):
    """Contents of provision.yaml.

    `secrets_dir` holds the tokens that a server shows only once; `mqtt_url` and `http_url` are the addresses on
    hand-outs, if they differ from the gateway's own.
    """

    secrets_dir: Annotated[PathField, Field(validate_default=True)] = Path("../secrets")
    mqtt_url: str = ""
    http_url: str = ""
    mosquitto: MosquittoAdmin | None = None
    influxdb: InfluxDBAdmin | None = None
    stores: dict[Slug, StoreAdmin] = {}
    grafana: GrafanaAdmin | None = None


def load_provision(directory: Path) -> ProvisionSettings:
    """Read provision.yaml of a configuration directory; without the file, no server is provisioned.

    Raises:
        ConfigInvalid: with every problem in it.
    """
    return read_file(directory, FILE_NAME, ProvisionSettings)


def check_names(config: Config, settings: ProvisionSettings) -> None:
    """Check that no slug is the name of the gateway's or the admin's account, nor the client id of the gateway.

    A broker may take an account's name for its client id.

    Raises:
        ProvisionError: a name is taken; the message says which.
    """
    if settings.mosquitto is None:
        return
    taken = {
        settings.mosquitto.gateway_user: "the gateway's MQTT account",
        settings.mosquitto.username: "the broker's admin",
    }
    session = re.compile(rf"{re.escape(config.settings.mqtt.client_id)}(-\d+)?")  # with workers each has its own
    for slug in config.by_slug:
        whose = taken.get(slug) or (session.fullmatch(slug) and "the gateway's MQTT session")
        if whose:
            raise ProvisionError(f"the slug {slug!r} is the name of {whose}: choose another")


def secret(file: Path | None, variable: str, what: str) -> str:
    """Return an admin's secret.

    Raises:
        SecretMissing: neither a file nor the environment has it; the message says where it may be.
    """
    found = find(file, variable)
    if found is None:
        raise SecretMissing(f"provisioning requires {what}: name its file in {FILE_NAME}, or set {variable}")
    return found
