"""Every exception that the gateway raises on purpose.

    GatewayError
    |-- ConfigError            the operators' files are wrong: every problem at once
    |-- SecretMissing          a token or password that a setting asks for is nowhere to be found
    |-- StateUnavailable       the gateway's own database cannot be written or read now
    |-- SessionError           the MQTT session cannot go on
    |   |-- BrokerRefused      the broker answered, and said no
    |   `-- BrokerUnreachable  nobody answered
    |-- StoreError             a write or a query did not work
    |   |-- StoreUnavailable   try again later: nothing is wrong with the data
    |   |   |-- StoreThrottled     ... after `retry_after` seconds
    |   |   `-- StoreUnreachable   ... and nobody answers: so it is for all of its startups
    |   `-- StoreRefused       never try the same data again
    |-- UnknownMeasurement     a query for something that was never stored
    |-- Unreplayable           a dead letter that cannot be put through again
    |-- ProvisionError         a server could not be provisioned
    |   |-- ServerUnreachable  nobody answered at its address
    |   `-- AdminRefused       it answered, and refused the admin's credentials or the request
    `-- Stopped                the part is shutting down

What is wrong with a device's message is no exception but a value: `model.Reason`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class GatewayError(Exception):
    """Base of all; its text is written for the person who has to act."""


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

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        at = f"{self.where}: " if self.where else ""
        return f"{place}: {at}expected {self.expected}; got {self.got}"


class ConfigError(GatewayError):
    """The configuration cannot be used. `problems` holds all of them, in reading order."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        lines = "\n".join(str(problem) for problem in self.problems)
        super().__init__(f"{count} problem{'' if count == 1 else 's'} in the configuration\n{lines}")


class SecretMissing(GatewayError):
    """A setting needs a secret, and neither its file nor its environment variable has one."""


class StateUnavailable(GatewayError):
    """The gateway's own database cannot be written or read: disk full, permissions, another process."""


class SessionError(GatewayError):
    """The MQTT session cannot go on as it is."""


class BrokerRefused(SessionError):
    """The broker answered and said no: credentials, protocol or permission."""


class BrokerUnreachable(SessionError):
    """No broker answered at the address."""


class StoreError(GatewayError):
    """A store did not do what was asked."""


class StoreUnavailable(StoreError):
    """The store cannot be written now. The data is fine: keep it and try again."""

    def delay(self, backoff: float) -> float:
        """Seconds to wait before the next try, given what plain backoff says."""
        return backoff


class StoreUnreadable(StoreUnavailable):
    """Readings may be there, and the store shows none of them to the gateway."""


class StoreThrottled(StoreUnavailable):
    """The store asks for a pause of `retry_after` seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after

    def delay(self, backoff: float) -> float:
        return max(backoff, self.retry_after)


class StoreUnreachable(StoreUnavailable):
    """Nobody answers at the store's address, whichever startup asks."""


class StoreRefused(StoreError):
    """The store will never take this data as it is; parts of it may have been written."""


class UnknownMeasurement(GatewayError):
    """Nothing of that name; `known` lists what there is."""

    def __init__(self, measurement: str, known: Sequence[str]) -> None:
        self.measurement = measurement
        self.known = tuple(known)
        there = ", ".join(known) or "none yet"
        super().__init__(f"there is no measurement {measurement!r}; there are: {there}")


class Unreplayable(GatewayError):
    """A dead letter that cannot be put through again, and why."""


class ProvisionError(GatewayError):
    """A server could not be provisioned; what was done before stays, and the next plan shows the rest."""


class ServerUnreachable(ProvisionError):
    """Nobody answered at the server's address."""


class AdminRefused(ProvisionError):
    """The server refused the admin's credentials, or what they asked for."""


class Stopped(GatewayError):
    """The part that was called is shutting down."""
