"""Broker: its address, and how to connect to it."""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import SplitResult, unquote, urlsplit

import aiomqtt

PORTS = {"mqtt": 1883, "mqtts": 8883}

# What aiomqtt and paho-mqtt would log, the devices count, or explain to the person who must act.
SILENT = logging.getLogger("devices.mqtt")
SILENT.addHandler(logging.NullHandler())
SILENT.propagate = False


class BrokerUrlError(ValueError):
    """An invalid address of the broker; the message says what is wrong, and never contains the password."""


@dataclass(frozen=True, slots=True)
class Broker:
    """Everything that is needed to connect. `tls` is None for plain TCP."""

    host: str
    port: int = 1883
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    protocol: Literal["3.1.1", "5"] = "3.1.1"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}"

    def client(self, identifier: str) -> aiomqtt.Client:
        """Return a new client for one connection, with a session that ends with it."""
        version = aiomqtt.ProtocolVersion.V5 if self.protocol == "5" else aiomqtt.ProtocolVersion.V311
        return aiomqtt.Client(
            self.host,
            self.port,
            username=self.user,
            password=self.password,
            identifier=identifier,
            protocol=version,
            tls_context=self.tls,
            logger=SILENT,
        )


def parse(
    url: str,
    password: str | None = None,
    ca_file: Path | None = None,
    protocol: Literal["3.1.1", "5"] = "3.1.1",
) -> Broker:
    """Read mqtt://[user[:password]@]host[:port], or mqtts://... for TLS; `ca_file` is in PEM.

    A password in the URL takes precedence over `password`; percent-encoding is undone.

    Raises:
        BrokerUrlError: the URL or the CA file is invalid.
    """
    parts = _split(url)
    if parts.scheme not in PORTS:
        raise BrokerUrlError("it must begin with mqtt:// or mqtts://, as in mqtt://localhost:1883")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise BrokerUrlError("nothing may follow the port, as in mqtt://localhost:1883")
    if ca_file and parts.scheme != "mqtts":
        raise BrokerUrlError("a CA file requires mqtts://")
    return Broker(
        host=_host(parts),
        port=parts.port or PORTS[parts.scheme],
        user=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else password,
        tls=_tls(ca_file) if parts.scheme == "mqtts" else None,
        protocol=protocol,
    )


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port  # read, because it is checked only on access
    except ValueError:
        raise BrokerUrlError("the port must be a number up to 65535, as in mqtt://localhost:1883") from None
    return parts


def _host(parts: SplitResult) -> str:
    try:
        host = parts.hostname or ""
        host.encode("idna")
    except UnicodeError:
        host = ""
    if not host:
        raise BrokerUrlError("it must name a valid host, as in mqtt://localhost:1883")
    return host


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # ssl.SSLError is an OSError
        raise BrokerUrlError(f"the CA file {ca_file} cannot be read as PEM: {error}") from None


def explain(error: Exception, broker: Broker, *, was_connected: bool) -> str:
    """Say what happened, what continues, and what to check: for the person who runs the fleet."""
    then = "The devices keep what they measure, and retry."
    if was_connected:
        return f"Lost the connection to {broker} ({error.__cause__ or error}). {then}"
    if isinstance(error, aiomqtt.MqttCodeError):
        return (
            f"The broker at {broker} rejected the connection: {error}. {then} "
            "Check the user in --broker, the password (or DEVICES_PASSWORD), and --protocol."
        )
    check = "the certificate (--ca-file)" if broker.tls else "that the broker listens there"
    return f"Cannot reach {broker}: {error}. {then} Check the host and port in --broker, and {check}."
