"""Types that pass between a device, its faults and its MQTT client: immutable, except for the JSON itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

Record = dict[str, Any]
"""One JSON object, as a device writes it."""

Body = Record | list[Record]


@dataclass(frozen=True, slots=True)
class Clock:
    """Place of a record's time, and its unit."""

    key: str
    unit: Literal["s", "ms", "rfc3339"]

    def write(self, now: float) -> int | float | str:
        """Return the moment `now` (Unix seconds), to the millisecond."""
        if self.unit == "ms":
            return round(now * 1000)
        if self.unit == "s":
            return round(now, 3)
        moment = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")
        return moment.replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class Channel:
    """A kind of message, as the device's developer knows it.

    `numbers` are JSON Pointers of numbers that every record must have; `closed` says that the gateway rejects
    unknown fields; a channel without a clock leaves the time to the gateway.
    """

    name: str
    numbers: tuple[str, ...]
    clock: Clock | None
    closed: bool


@dataclass(frozen=True, slots=True)
class Telemetry:
    """A good message that is not encoded yet."""

    topic: str
    channel: Channel
    body: Body


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """A message as it is sent. `fault` names what is wrong with it on purpose."""

    topic: str
    payload: bytes
    fault: str | None = None


class Device(Protocol):
    """A device that measures. `measure` is called at its own pace; `now` is in Unix seconds and never decreases."""

    name: str

    def measure(self, now: float) -> Sequence[Telemetry]: ...


def encode(body: Body) -> bytes:
    """Encode as compact UTF-8 JSON, as small devices send it."""
    return json.dumps(body, separators=(",", ":")).encode()
