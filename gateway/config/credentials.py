"""Secrets: from the file that a `*_file` setting names, or from an environment variable; never from YAML."""

from __future__ import annotations

import os
from pathlib import Path

from gateway.config.models import Mqtt, Settings
from gateway.config.startup_file import Startup
from gateway.errors import SecretMissing


def find(file: Path | None, variable: str) -> str | None:
    """Return the secret in `file`, else in the environment `variable`, else None.

    Raises:
        SecretMissing: the file cannot be read or is empty.
    """
    if file is None:
        return os.environ.get(variable) or None
    try:
        secret = file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SecretMissing(f"{file}: expected a file with one secret; {error.strerror}") from None
    except UnicodeDecodeError:
        raise SecretMissing(f"{file}: expected a file with one secret; it is not valid UTF-8") from None
    except ValueError as error:  # not a valid path, such as one with a zero byte
        raise SecretMissing(f"{str(file)!r}: expected a file with one secret; {error}") from None
    if not secret:
        raise SecretMissing(f"{file}: expected a file with one secret; it is empty")
    return secret


def named_variable(variable: str, name: str | None) -> str:
    """Return the environment variable for a name, such as GATEWAY_TOKEN_ACME_AIR; without a name, `variable` itself."""
    return variable if name is None else f"{variable}_{name.upper().replace('-', '_')}"


def mqtt_password(settings: Mqtt) -> str | None:
    """Return the password of the gateway's account at the broker; None if there is none.

    Raises:
        SecretMissing: its file cannot be read.
    """
    return find(settings.password_file, "GATEWAY_MQTT_PASSWORD")


def store_setting(store: str | None) -> str:
    """Return where gateway.yaml has the settings of a store."""
    return "store" if store is None else f"stores.{store}"


def influxdb_variable(store: str | None) -> str:
    """Return the environment variable that may hold the token of a store."""
    return named_variable("GATEWAY_INFLUXDB_TOKEN", store)


def influxdb_token(settings: Settings, store: str | None = None) -> str:
    """Return the token that may write and read the buckets of a store's startups.

    Raises:
        SecretMissing: neither a file nor the environment has it.
    """
    token = find(settings.store_named(store).influxdb.token_file, influxdb_variable(store))
    if token is None:
        raise SecretMissing(
            f"the InfluxDB store requires a token: set {store_setting(store)}.influxdb.token_file in gateway.yaml, "
            f"or the environment variable {influxdb_variable(store)}"
        )
    return token


def operator_token(settings: Settings) -> str | None:
    return find(settings.http.operator_token_file, "GATEWAY_OPERATOR_TOKEN")


def token_variable(slug: str) -> str:
    """Return the environment variable that may hold a startup's API token."""
    return named_variable("GATEWAY_TOKEN", slug)


def startup_token(startup: Startup) -> str | None:
    return find(startup.token_file, token_variable(startup.slug))
