"""Values that flow through the gateway, and the contract of its listeners. Immutable, and free of I/O.

`Message` and `Reading` are made once per message, so they are named tuples: a frozen dataclass of the same
fields takes three times as long to build (docs/decisions/0002-hot-path-types.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple, Protocol, runtime_checkable

FieldValue = float | int | bool | str

UNROUTED = "_unrouted"
"""Stands for the startup of messages that belong to none; no slug can be spelled like it."""


class Publish(Protocol):
    """One MQTT PUBLISH as it arrived. A `Message` is one, and so is the MQTT 5 codec's own packet, so that nothing is
    copied on the way to the pipeline."""

    @property
    def topic(self) -> str: ...
    @property
    def payload(self) -> bytes: ...
    @property
    def qos(self) -> int: ...
    @property
    def retain(self) -> bool: ...
    @property
    def packet_id(self) -> int | None: ...


class Message(NamedTuple):
    """A PUBLISH that the gateway itself makes. `packet_id` is None with QoS 0. `cut` bytes are missing at the end of
    the payload: the packet was larger than a session takes."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    packet_id: int | None = None
    cut: int = 0


def cut_of(message: Publish) -> int:
    """Return how many bytes are missing at the end of a payload. The codec's own packets are always whole."""
    cut: int = getattr(message, "cut", 0)
    return cut


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages of one session that arrived together.

    `arrived_ns` (UTC, ns since 1970) is taken once for the batch. `connection` counts the connections of the session: a
    packet id is valid only on the connection that delivered it.
    """

    messages: Sequence[Publish]
    arrived_ns: int
    connection: int = 0

    @property
    def packet_ids(self) -> list[int]:
        """The messages of QoS 1, which wait for an acknowledgement."""
        return [ident for message in self.messages if (ident := message.packet_id) is not None]


class Reading(NamedTuple):
    """One decoded, validated data point. `time_ns` is UTC in ns since 1970."""

    startup: str
    device: str
    measurement: str
    tags: Mapping[str, str]
    fields: Mapping[str, FieldValue]
    time_ns: int


class Code(StrEnum):
    """The reasons of rejections: the fixed set that metrics, feedback and docs/device-guide.md share."""

    NO_RULE = "no_rule"
    BAD_DEVICE = "bad_device"
    BAD_TAG = "bad_tag"
    TOO_LARGE = "too_large"
    NOT_JSON = "not_json"
    EMPTY = "empty"
    MISSING = "missing"
    WRONG_TYPE = "wrong_type"
    OUT_OF_RANGE = "out_of_range"
    NOT_FINITE = "not_finite"
    UNKNOWN_FIELD = "unknown_field"
    BAD_TEXT = "bad_text"
    BAD_TIME = "bad_time"
    OVER_QUOTA = "over_quota"
    BLOCKED = "blocked"
    ENDED = "ended"
    STORE_REFUSED = "store_refused"


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing wrong with a message: where, what was expected, what it was, and perhaps what to do.

    `where` is `topic`, `payload` or a JSON Pointer (RFC 6901) into the payload.
    """

    code: Code
    where: str
    expected: str
    got: str
    hint: str = ""

    def __str__(self) -> str:
        hint = f" ({self.hint})" if self.hint else ""
        return f"{self.where}: expected {self.expected}; got {self.got}{hint}"

    def as_json(self) -> dict[str, str]:
        """Return the form of feedback, dead letters and the HTTP API."""
        body = {"code": self.code.value, "where": self.where, "expected": self.expected, "got": self.got}
        return body | {"hint": self.hint} if self.hint else body


MAX_POSITIONS = 1000
"""Positions of rejected records that are shown: more of them would take more room than the message."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A message, or some of its records, rejected with every reason.

    `records` are the positions (from 0) of the rejected records in the payload's array; empty means the whole
    message. `count` is the number of records, or 1. `cut` bytes are missing at the end of the payload, and `further`
    positions at the end of `records`: the live feed keeps no more than people look at. `stands_for` is the number of
    messages over quota that a sample represents.
    """

    startup: str
    device: str
    topic: str
    payload: bytes
    arrived_ns: int
    reasons: tuple[Reason, ...]
    records: tuple[int, ...] = ()
    cut: int = 0
    further: int = 0
    stands_for: int = 0

    @property
    def size(self) -> int:
        """Bytes of the payload as it arrived."""
        return len(self.payload) + self.cut

    def shortened(self, size: int, positions: int = MAX_POSITIONS) -> Rejection:
        """Return the same rejection with at most `size` bytes of its payload and `positions` positions of records."""
        if len(self.payload) <= size and len(self.records) <= positions:
            return self
        payload, records = self.payload[:size], self.records[:positions]
        further = self.further + len(self.records) - len(records)
        return replace(self, payload=payload, records=records, cut=self.size - len(payload), further=further)

    @property
    def count(self) -> int:
        return self.stands_for or len(self.records) + self.further or 1


Readings = Mapping[str, Sequence[Reading]]
"""Readings by startup."""


class Listener(Protocol):
    """Observes the outcome of every batch, once it is on disk: each method at most once a batch, never with nothing.

    Calls come from the event loop, between two batches: a listener must not block. Work that takes time belongs in a
    task of its own (`BackgroundListener`). A listener that raises loses that batch, and disturbs nothing else
    (`gateway.feeds.fan_out`). Outcomes are not repeated: a crash may cost a listener the last of them. Never
    change what is passed: all listeners get the same objects, and later messages share some of them.
    """

    def accepted(self, readings: Readings, /) -> None:
        """Take the batch's readings: they are in the journal, not yet in the store."""

    def rejected(self, rejections: Sequence[Rejection], /) -> None:
        """Take the batch's rejections, or what the store refused of earlier readings."""


@runtime_checkable
class BackgroundListener(Listener, Protocol):
    """A listener with a task of its own."""

    async def run(self) -> None:
        """Work until cancelled; restarted when it ends."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Records of one startup. A message whose payload cannot be read as records counts as one."""

    received: int = 0
    accepted: int = 0
    rejected: int = 0
    stored: int = 0
    journaled: int = 0
    refused: int = 0

    @property
    def balanced(self) -> bool:
        return (
            self.received == self.accepted + self.rejected
            and self.accepted == self.stored + self.journaled + self.refused
        )

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.received + other.received,
            self.accepted + other.accepted,
            self.rejected + other.rejected,
            self.stored + other.stored,
            self.journaled + other.journaled,
            self.refused + other.refused,
        )

    def as_json(self) -> dict[str, int | bool]:
        return {
            "received": self.received,
            "accepted": self.accepted,
            "rejected": self.rejected,
            "stored": self.stored,
            "journaled": self.journaled,
            "refused": self.refused,
            "balanced": self.balanced,
        }

    @classmethod
    def total(cls, by_startup: Mapping[str, Counts]) -> Counts:
        """Return the sum over all startups."""
        return sum(by_startup.values(), cls())
