"""Every exception that the gateway raises on purpose; none is defined elsewhere.

    GatewayError
    |-- ConfigError                the operators' files, or what they name, cannot be used
    |   |-- ConfigInvalid          every problem of the files at once
    |   |-- TemplateInvalid        one topic template
    |   |-- SecretMissing          neither its file nor its environment variable holds it
    |   |-- HostUnknown            a host that is not configured, or none was given
    |   `-- CertificateUnusable    the certificate of the HTTP server, or its key
    |-- AddressUnavailable         the HTTP server cannot listen
    |-- StateUnavailable           the gateway's own database cannot be written or read: try again later
    |-- StateClosed                the gateway's own database is closed: the gateway is stopping
    |-- SessionError               the MQTT session cannot continue
    |   |-- SessionRejected        the broker answered, and rejected the session, or ended it
    |   |-- BrokerUnreachable      nobody answered: try again later
    |   `-- PacketMalformed        the broker sent bytes that are not MQTT: connect again
    |-- StoreError                 a write or a query failed
    |   |-- StoreUnavailable       try the same again later: nothing is wrong with the data
    |   |   |-- StoreThrottled     ... after `retry_after` seconds
    |   |   |-- StoreUnreachable   ... nobody answers, whichever startup asks
    |   |   |-- StoreCrowded       ... too many queries are under way
    |   |   `-- StoreUnreadable    ... readings may be there, but not for the gateway to see
    |   `-- StoreRefused           never try the same data again
    |-- MeasurementUnknown         a query for something that was never stored
    |-- ReplayImpossible           a dead letter that cannot be replayed
    |-- Crowded                    too much of one kind is under way: try again later
    |-- RequestRejected            an HTTP request that is answered with an error
    |-- GatewayUnreachable         a command found no running gateway
    |-- CommandRejected            the running gateway rejected a command's request
    |-- ExportFailed               the files of an export cannot be written
    |-- DemoFailed                 a part of the demo failed
    `-- ProvisionError             a server could not be provisioned
        |-- ServerUnreachable      nobody answered at its address
        `-- AdminRejected          it rejected the admin's credentials, or the request

Names: the root and the branches directly below it end in `Error`; every other name is a subject and its state.
A message is written for the person who must act. What is wrong with a device's message is not an exception but a
value: `model.Reason`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


class GatewayError(Exception):
    """Base of all."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a configuration file.

    `line` counts from 1; 0 means the file as a whole.
    """

    file: str
    line: int
    where: str
    expected: str
    got: str

    def __post_init__(self) -> None:
        """Escape lone surrogates, which names of files and YAML may have: JSON and terminals do not take them."""
        for name in ("file", "where", "expected", "got"):
            plain = getattr(self, name).encode(errors="backslashreplace").decode()
            object.__setattr__(self, name, plain)

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        at = f"{self.where}: " if self.where else ""
        return f"{place}: {at}expected {self.expected}; got {self.got}"


class ConfigError(GatewayError):
    """The configuration, or something that it names, cannot be used."""


class ConfigInvalid(ConfigError):
    """The files are wrong. `problems` holds every problem, in reading order."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        lines = "\n".join(str(problem) for problem in self.problems)
        super().__init__(f"{count} problem{'' if count == 1 else 's'} in the configuration\n{lines}")


class TemplateInvalid(ConfigError):
    """A topic template that cannot be used; `expected` and `got` say why."""

    def __init__(self, expected: str, got: str) -> None:
        self.expected = expected
        self.got = got
        super().__init__(f"expected {expected}; got {got}")


class SecretMissing(ConfigError):
    """A setting needs a secret, and neither its file nor its environment variable has one."""


class HostUnknown(ConfigError):
    """A host that the configuration does not have, or that this gateway was not given."""


class CertificateUnusable(ConfigError):
    """`http.cert_file` or `http.key_file` cannot be used."""


class AddressUnavailable(GatewayError):
    """The HTTP server cannot listen on its address."""


class StateUnavailable(GatewayError):
    """The gateway's own database cannot be written or read: disk full, permissions, another process."""


class StateClosed(GatewayError):
    """The gateway's own database is closed."""


class SessionError(GatewayError):
    """The MQTT session cannot continue as it is."""


class SessionRejected(SessionError):
    """The broker rejected the session, or ended it: credentials, protocol, permission, another client."""


class BrokerUnreachable(SessionError):
    """No broker answered at the address."""


class PacketMalformed(SessionError):
    """The broker sent bytes that are not MQTT: the connection cannot continue."""


class StoreError(GatewayError):
    """A store did not do what was asked."""


class StoreUnavailable(StoreError):
    """The store cannot be written or read now. The data is fine: keep it and try again."""

    def delay(self, backoff: float) -> float:
        """Return the seconds to wait before the next try, given what plain backoff says."""
        return backoff


class StoreThrottled(StoreUnavailable):
    """The store asks for a pause of `retry_after` seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after

    def delay(self, backoff: float) -> float:
        return max(backoff, self.retry_after)


class StoreUnreachable(StoreUnavailable):
    """Nobody answers at the store's address, whichever startup asks."""


class StoreCrowded(StoreUnavailable):
    """Too many queries are under way, of this startup (`is_own`) or of all together."""

    def __init__(self, message: str, *, is_own: bool) -> None:
        self.is_own = is_own
        super().__init__(message)


class StoreUnreadable(StoreUnavailable):
    """Readings may be there, but the store shows the gateway none of them."""


class StoreRefused(StoreError):
    """The store will never take this data as it is; parts of it may have been written."""


class MeasurementUnknown(GatewayError):
    """No measurement has this name; `known` lists those that exist."""

    def __init__(self, measurement: str, known: Sequence[str]) -> None:
        self.measurement = measurement
        self.known = tuple(known)
        there = ", ".join(known) or "none yet"
        super().__init__(f"there is no measurement {measurement!r}; there are: {there}")


class ReplayImpossible(GatewayError):
    """A dead letter cannot be replayed."""


class Crowded(GatewayError):
    """Too much of one kind is under way, of this startup (`is_own`) or of all together: try again later."""

    def __init__(self, message: str, *, is_own: bool) -> None:
        self.is_own = is_own
        super().__init__(message)


class RequestRejected(GatewayError):
    """An HTTP request is answered with `status` (400 to 599), `detail` and `headers`, and further `members` of the
    problem document."""

    def __init__(
        self,
        status: int,
        detail: str,
        headers: Mapping[str, str] | None = None,
        members: Mapping[str, str] | None = None,
    ) -> None:
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})
        self.members = dict(members or {})
        super().__init__(detail)


class GatewayUnreachable(GatewayError):
    """No gateway answers at the address that a command uses."""


class CommandRejected(GatewayError):
    """The running gateway rejected a command's request, with the HTTP status `status`."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class ExportFailed(GatewayError):
    """The directory of an export is not empty, or cannot be written."""


class DemoFailed(GatewayError):
    """A part of the demo did not start, or ended early."""


class ProvisionError(GatewayError):
    """A server could not be provisioned; what was done before stays, and the next plan shows the rest."""


class ServerUnreachable(ProvisionError):
    """Nobody answered at the server's address."""


class AdminRejected(ProvisionError):
    """The server rejected the admin's credentials, or what they asked for."""
