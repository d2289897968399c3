"""Address of the broker, how to speak TLS with it, and what an operator should do when it cannot be reached."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from gateway.config import Mqtt
from gateway.config.credentials import mqtt_password
from gateway.errors import BrokerUnreachable, SecretMissing, SessionError, SessionRejected

DEFAULT_PORTS = {"mqtt": 1883, "mqtts": 8883}


@dataclass(frozen=True, slots=True)
class Broker:
    """Address of the broker; `tls` None: no TLS."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None

    @classmethod
    def of(cls, settings: Mqtt) -> Broker:
        """Return the broker that the settings name.

        Raises:
            SessionError: a certificate, key or authority cannot be read.
        """
        url = urlsplit(settings.url)
        tls = _tls(settings) if url.scheme == "mqtts" else None
        return cls(url.hostname or "localhost", url.port or DEFAULT_PORTS[url.scheme], tls)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def unreachable(self, error: Exception) -> BrokerUnreachable:
        """Explain an error of opening the connection."""
        if isinstance(error, ssl.SSLError):
            return BrokerUnreachable(
                f"no TLS with the broker at {self}: {error}; does it speak TLS on this port, under "
                "this name, and is mqtt.ca_file the authority of its certificate?"
            )
        return BrokerUnreachable(f"no MQTT broker at {self}: {error}; is it running, and is mqtt.url correct?")

    def closed(self, how: str, protocol: str) -> BrokerUnreachable:
        """Explain a connection that the broker closed before it answered."""
        advice = f"does it speak MQTT {protocol} (mqtt.protocol), and without TLS (mqtts:// in mqtt.url)?"
        if self.tls is not None:
            advice = "does it require a certificate from an authority that it trusts (mqtt.cert_file, mqtt.key_file)?"
        return BrokerUnreachable(f"the broker at {self} closed the connection{how}; {advice}")

    def silent(self, to_what: str, seconds: float, protocol: str) -> BrokerUnreachable:
        """Explain an answer that did not arrive in time."""
        return BrokerUnreachable(
            f"the broker at {self} did not answer {to_what} within {seconds:g} s; "
            f"does it speak MQTT {protocol} (mqtt.protocol)?"
        )

    def rejected(self, code: str) -> SessionRejected:
        """Explain a CONNACK that rejects; `code` is its reason in words."""
        return SessionRejected(f"the broker at {self} rejected the gateway: {code}; {_advice(code)}")

    def lost(self, why: object) -> BrokerUnreachable:
        """Explain a connection that was lost; `why` may be empty."""
        return BrokerUnreachable(f"the connection to {self} was lost{f': {why}' if why else ''}")


def read_password(settings: Mqtt) -> str | None:
    """Return the gateway's password as it is now: provisioning may have renewed it since the last connection.

    Raises:
        SessionError: its file cannot be read.
    """
    try:
        return mqtt_password(settings)
    except SecretMissing as error:
        raise SessionError(str(error)) from error


def read_account(settings: Mqtt) -> tuple[str | None, bytes | None]:
    """Return the gateway's name and password as CONNECT of MQTT 5 has them; None where there are none.

    Raises:
        SessionError: the file of the password cannot be read.
    """
    password = read_password(settings) if settings.username else None
    return settings.username, None if password is None else password.encode()


def rejected_subscription(filters: Sequence[str]) -> str:
    """Explain rejected subscriptions."""
    return f"the broker rejected the subscription to {', '.join(filters)}; may the gateway's account read it?"


def _advice(code: str) -> str:
    words = code.lower().replace("_", " ")
    if "user name" in words or "authorized" in words:
        return "check mqtt.username and its password (mqtt.password_file or GATEWAY_MQTT_PASSWORD)"
    if "protocol" in words:
        return "set mqtt.protocol to 3.1.1"
    return "see the broker's log"


def _tls(settings: Mqtt) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
        if settings.cert_file is not None:
            context.load_cert_chain(settings.cert_file, settings.key_file)
    except OSError as error:  # ssl.SSLError is one
        raise SessionError(
            f"mqtt.ca_file {settings.ca_file}, mqtt.cert_file {settings.cert_file}, mqtt.key_file {settings.key_file}: "
            f"expected readable PEM files, the key being that of the certificate; {error.strerror or error}"
        ) from error
    return context
