"""Secrets: from the file that a `*_file` setting names, or from an environment variable; never from YAML."""

from __future__ import annotations

import os
from pathlib import Path

from gateway.config.models import Settings, Startup
from gateway.errors import SecretMissing


def find(file: Path | None, variable: str) -> str | None:
    """The secret in `file`, else in the environment `variable`, else None.

    Raises:
        SecretMissing: the file is named but cannot be read or is empty.
    """
    if file is None:
        return os.environ.get(variable) or None
    try:
        secret = file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SecretMissing(f"{file}: expected a file with one secret; {error.strerror}") from None
    except UnicodeDecodeError:
        raise SecretMissing(f"{file}: expected a file with one secret; it is not text in UTF-8") from None
    if not secret:
        raise SecretMissing(f"{file}: expected a file with one secret; it is empty")
    return secret


def mqtt_password(settings: Settings) -> str | None:
    return find(settings.mqtt.password_file, "GATEWAY_MQTT_PASSWORD")


def influxdb_token(settings: Settings) -> str:
    """The token that may write and read the startups' buckets.

    Raises:
        SecretMissing: it is nowhere.
    """
    token = find(settings.store.influxdb.token_file, "GATEWAY_INFLUXDB_TOKEN")
    if token is None:
        raise SecretMissing(
            "the InfluxDB store needs a token: set store.influxdb.token_file in gateway.yaml, "
            "or the environment variable GATEWAY_INFLUXDB_TOKEN"
        )
    return token


def operator_token(settings: Settings) -> str | None:
    return find(settings.http.operator_token_file, "GATEWAY_OPERATOR_TOKEN")


def token_variable(slug: str) -> str:
    """The environment variable that may hold a startup's API token."""
    return "GATEWAY_TOKEN_" + slug.upper().replace("-", "_")


def startup_token(startup: Startup) -> str | None:
    return find(startup.token_file, token_variable(startup.slug))
