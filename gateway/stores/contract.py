"""What every store does. tests/contract/test_stores.py holds each implementation to it.

A store keeps each startup's readings apart from all others. Writing is an upsert by series and time: writing the
same lines again changes nothing, and a point that exists gains the fields that it did not have.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from gateway.model import FieldValue, Reading


@dataclass(frozen=True, slots=True)
class Query:
    """A range of one measurement: `start_ns` <= time < `stop_ns`, of one device or of all.

    With `every_ns` the readings of each series are gathered in windows of that length, aligned to 1970: the mean
    of numbers, the last of texts and booleans. A window's time is its start; empty windows are left out.
    """

    measurement: str
    start_ns: int
    stop_ns: int
    device: str | None = None
    every_ns: int | None = None


class Row(NamedTuple):
    """One point of an answer; `tags` include the device. Fields without a value are left out."""

    time_ns: int
    tags: Mapping[str, str]
    fields: Mapping[str, FieldValue]


class Columns(NamedTuple):
    """The names of a measurement's tags (the device among them) and of its fields, each sorted."""

    tags: tuple[str, ...]
    fields: tuple[str, ...]


class Store(Protocol):
    """Where readings live."""

    writes_at_once: int
    """How many writes, each of one startup, do it good at a time."""

    async def open(self) -> None:
        """Get ready to write; needs no server to be there yet."""

    async def close(self) -> None:
        """Let go of files and connections."""

    async def write(self, startup: str, lines: Sequence[bytes]) -> None:
        """Write lines of line protocol (`gateway.line_protocol`), all of one startup; returns when they are
        stored for good.

        Raises:
            StoreUnavailable: not now; write the same again later (StoreThrottled says when).
            StoreRefused: something in them can never be stored; part of the rest may have been.
        """

    async def measurements(self, startup: str) -> list[str]:
        """The names of what is stored, sorted.

        Raises:
            StoreUnavailable: not now.
        """

    async def check_readable(self, startup: str) -> None:
        """Where nothing is found, whether that is because nothing is shown.

        Raises:
            StoreUnreadable: there is no place for the startup's readings, or not for the gateway's eyes.
            StoreUnavailable: not now.
        """

    async def columns(self, startup: str, measurement: str) -> Columns:
        """What the rows of a measurement may hold; both empty where it does not exist.

        Raises:
            StoreUnavailable: not now.
        """

    def history(self, startup: str, query: Query) -> AsyncGenerator[list[Row]]:
        """The rows in chunks of a few thousand: series after series, each by time. Holds one chunk in memory.

        A measurement that does not exist gives no rows.

        Raises:
            StoreUnavailable: not now.
        """

    async def expire(self, startup: str, before_ns: int) -> None:
        """Forget readings older than `before_ns`, where the store's own server does not.

        Raises:
            StoreUnavailable: not now.
        """

    async def latest(self, startup: str) -> list[Reading]:
        """The newest reading of every series.

        Raises:
            StoreUnavailable: not now.
        """
