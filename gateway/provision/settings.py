"""provision.yaml: the servers that provisioning looks after, and where its secrets are. Only `provision` reads it.

Admin secrets come from the files that it names or from environment variables, as in gateway.yaml. A server that is
not named is left alone.
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
    """The broker's admin API is MQTT itself. `gateway_user` is the account that the gateway gets."""

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
    """Organisation and bucket names are those of gateway.yaml."""

    url: Annotated[str, _HTTP]
    token_file: PathField | None = None


class StoreAdmin(InfluxDBAdmin):
    """The InfluxDB of one of `stores` in gateway.yaml. `grafana_url` is where Grafana itself reaches it."""

    grafana_url: str = ""


class GrafanaAdmin(_Model):
    """A server admin's account. `influxdb_url` is where Grafana itself reaches the InfluxDB of the default store;
    `public_url` is for people."""

    url: Annotated[str, _HTTP]
    username: str = "admin"
    password_file: PathField | None = None
    influxdb_url: Annotated[str, _HTTP]
    public_url: str = ""


class ProvisionSettings(_Model):
    """The whole file. `secrets_dir` holds the tokens that a server tells only once; `mqtt_url` and `http_url` are what
    hand-outs tell startups, where they differ from the gateway's own view."""

    secrets_dir: Annotated[PathField, Field(validate_default=True)] = Path("../secrets")
    mqtt_url: str = ""
    http_url: str = ""
    mosquitto: MosquittoAdmin | None = None
    influxdb: InfluxDBAdmin | None = None
    stores: dict[Slug, StoreAdmin] = {}
    grafana: GrafanaAdmin | None = None


def load_provision(directory: Path) -> ProvisionSettings:
    """Read provision.yaml of a configuration directory; without the file no server is provisioned.

    Raises:
        ConfigInvalid: with every problem in it.
    """
    return read_file(directory, FILE_NAME, ProvisionSettings)


def check_names(config: Config, settings: ProvisionSettings) -> None:
    """No startup's account may be the gateway's or the admin's, nor its client id the gateway's, where the broker takes
    an account's name for its client id.

    Raises:
        ProvisionError: one would; the text says which.
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
            raise ProvisionError(f"no startup can be called {slug!r}, the name of {whose}: choose another slug")


def secret(file: Path | None, variable: str, what: str) -> str:
    """An admin's secret.

    Raises:
        SecretMissing: it is nowhere; the text says where it may be.
    """
    found = find(file, variable)
    if found is None:
        raise SecretMissing(f"provisioning needs {what}: name its file in {FILE_NAME}, or set {variable}")
    return found
