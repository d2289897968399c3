"""What crosses between a device, its faults and its MQTT client: all immutable, but for the JSON itself."""

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
    """Where a record carries its time, and how it is written."""

    key: str
    unit: Literal["s", "ms", "rfc3339"]

    def write(self, now: float) -> int | float | str:
        """The moment `now` (Unix seconds), to the millisecond."""
        if self.unit == "ms":
            return round(now * 1000)
        if self.unit == "s":
            return round(now, 3)
        moment = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")
        return moment.replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class Channel:
    """What the device's developer knows about one kind of message.

    `numbers` are JSON Pointers of numbers that every record must have; `closed` says that the gateway refuses
    fields that it does not know; a channel without a clock leaves the time to the gateway.
    """

    name: str
    numbers: tuple[str, ...]
    clock: Clock | None
    closed: bool


@dataclass(frozen=True, slots=True)
class Telemetry:
    """One good message that is not written down yet."""

    topic: str
    channel: Channel
    body: Body


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """One message as it goes over the wire. `fault` names what is wrong with it on purpose."""

    topic: str
    payload: bytes
    fault: str | None = None


class Device(Protocol):
    """Something that measures. `measure` is called at its own pace, `now` in Unix seconds never falling."""

    name: str

    def measure(self, now: float) -> Sequence[Telemetry]: ...


def encode(body: Body) -> bytes:
    """Compact UTF-8 JSON, as small devices send it."""
    return json.dumps(body, separators=(",", ":")).encode()
