"""Shape of the load: devices, topics and payloads.

Every message of a shape has the same length, so that a receiver can step through them by stride, without decoding:
names and numbers are padded to fixed widths, and payloads to the size requested.

A payload is a JSON object, or an array of several:

    {"sequence":1000000042,"f01":21.57}

`sequence` counts the messages from 10^9 on, so that it always has ten digits and identifies each message.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

FIRST_SEQUENCE = 1_000_000_000
SEQUENCE_DIGITS = 10
MEASUREMENT = "climate"
FILTER = "testbed/#"
_SEQUENCE = '"sequence":'
_NOTE = ',"note":""'


@dataclass(frozen=True, slots=True)
class Shape:
    """A shape. `devices` are of all startups together; `payload` is bytes of a message, at least those of fields."""

    startups: int = 5
    devices: int = 200
    fields: int = 2
    readings: int = 1
    payload: int = 60

    def __post_init__(self) -> None:
        limits = {"startups": 1000, "devices": 100_000, "fields": 100, "readings": 1000}
        for name, most in limits.items():
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(f"{name}: expected 1 to {most}; got {getattr(self, name)}")
        if self.devices < self.startups:
            raise ValueError(f"devices: expected one for each of {self.startups} startups; got {self.devices}")

    def but(self, **changes: int) -> Shape:
        """Return the same shape with something changed."""
        return replace(self, **changes)

    def as_json(self) -> dict[str, int]:
        return asdict(self)

    @property
    def has_note(self) -> bool:
        """True if the payload is padded with a string field: blanks do for a few bytes only."""
        return self.payload >= 2 * self._bare_length() + 64

    def slug(self, startup: int) -> str:
        """Return the slug of startup 0, 1, …"""
        return f"lab-{startup:03}"

    def slugs(self) -> list[str]:
        return [self.slug(startup) for startup in range(self.startups)]

    def topic(self, message: int) -> str:
        """Return the topic of the n-th message: devices take turns, and with them the startups."""
        device = message % self.devices
        return f"testbed/{self.slug(device % self.startups)}/dev-{device:05}/{MEASUREMENT}"

    def body(self, message: int, sequence: int = FIRST_SEQUENCE) -> bytes:
        """Return the payload of the n-th message."""
        records = [self._record(message + reading, sequence) for reading in range(self.readings)]
        filling = max(0, self.payload - self._bare_length())
        if self.has_note:
            note = _NOTE[:-1] + "x" * (filling - len(_NOTE)) + '"'
            records[-1] += note
            filling = 0
        text = ",".join("{" + record + "}" for record in records)
        text = text if self.readings == 1 else f"[{text}]"
        return (text + " " * filling).encode()

    def sequence_offset(self) -> int:
        """Return where the digits of the first record's sequence begin in a payload."""
        return len(_SEQUENCE) + (1 if self.readings == 1 else 2)

    def rule(self, startup: int) -> dict[str, Any]:
        """Return the topic rule of a startup, as in its file. Without `time`, the arrival time is taken."""
        fields: dict[str, Any] = {"sequence": {"type": "float"}}
        fields |= {_name(field): {"type": "float", "min": -40, "max": 125} for field in range(1, self.fields)}
        if self.has_note:
            fields["note"] = {"type": "string", "required": self.readings == 1}
        return {"topic": f"testbed/{self.slug(startup)}/{{device}}/{MEASUREMENT}", "fields": fields}

    def _record(self, message: int, sequence: int) -> str:
        values = [f"{_SEQUENCE}{sequence}"]
        values += [
            f'"{_name(field)}":{20 + (message * 7 + field * 13) % 1000 / 100:05.2f}' for field in range(1, self.fields)
        ]
        return ",".join(values)

    def _bare_length(self) -> int:
        """Return the bytes of a payload without padding."""
        record = len(self._record(0, FIRST_SEQUENCE)) + 2
        return record * self.readings + (self.readings - 1) + (0 if self.readings == 1 else 2)


def _name(field: int) -> str:
    return f"f{field:02}"
