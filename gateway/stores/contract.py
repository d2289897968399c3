"""Contract of a store. tests/contract/test_stores.py holds each implementation to it.

A store keeps each startup's readings apart from all others. Writing is an upsert by series and time: writing the
same lines again changes nothing, and a point that exists gains the fields that it did not have.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from gateway.model import FieldValue, Reading

CHUNK_BYTES = 1 << 20
"""Characters of the strings in a chunk, about."""


@dataclass(frozen=True, slots=True)
class Query:
    """Range of one measurement: `start_ns` <= time < `stop_ns`, of one device or of all.

    With `every_ns` the readings of each series are aggregated in windows of that length, aligned to 1970: the mean
    of numbers, the last of strings and booleans. A window's time is its start; empty windows are left out.
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

    def reading(self, startup: str, measurement: str) -> Reading:
        """Return the reading that this point was written from."""
        tags = {name: value for name, value in self.tags.items() if name != "device"}
        return Reading(startup, self.tags.get("device", ""), measurement, tags, self.fields, self.time_ns)


def texts(values: Iterable[object]) -> int:
    """Return the length of the strings among values: what may be long in a row."""
    return sum(len(value) for value in values if isinstance(value, str))


class Columns(NamedTuple):
    """Names of a measurement's tags (the device among them) and of its fields, each sorted."""

    tags: tuple[str, ...]
    fields: tuple[str, ...]


class Store(Protocol):
    """Place where readings are kept, of one kind of server or file."""

    writes_at_once: int
    """Writes, each of one startup, that it should get at a time."""

    def bytes_at_once(self, startup: str) -> int:
        """Return how many bytes of lines the next write of a startup should have at most. It is less for a while after
        a write that took too long, or was too long for the server."""

    async def open(self) -> None:
        """Get ready to write; needs no server to be there yet."""

    async def close(self) -> None:
        """Close files and connections."""

    async def write(self, startup: str, lines: Sequence[bytes]) -> None:
        """Write lines of line protocol (`gateway.line_protocol`), all of one startup; returns when they are
        stored for good.

        Raises:
            StoreUnavailable: not now; write the same again later (StoreThrottled says when).
            StoreRefused: some of them can never be stored; some of the others may have been.
        """

    async def measurements(self, startup: str) -> list[str]:
        """Return the names of what is stored, sorted.

        Raises:
            StoreUnavailable: not now.
        """

    async def check_readable(self, startup: str) -> None:
        """Check that finding no readings means that there are none.

        Raises:
            StoreUnreadable: there is no place for the startup's readings, or the gateway may not read it.
            StoreUnavailable: not now.
        """

    async def columns(self, startup: str, measurement: str) -> Columns:
        """Return the columns that the rows of a measurement may have; none where it does not exist.

        Raises:
            StoreUnavailable: not now.
        """

    def history(self, startup: str, query: Query) -> AsyncGenerator[list[Row]]:
        """Yield the rows in chunks of some hundred, or of about `CHUNK_BYTES`: series after series, each by time.
        Holds a few chunks in memory.

        A measurement that does not exist gives no rows.

        Raises:
            StoreUnavailable: not now.
        """

    async def expire(self, startup: str, before_ns: int) -> None:
        """Delete readings older than `before_ns`, unless the store's own server does that.

        Raises:
            StoreUnavailable: not now.
        """

    def latest(self, startup: str) -> AsyncGenerator[list[Reading]]:
        """Yield the newest reading of every series, in chunks like those of `history`.

        Raises:
            StoreUnavailable: not now.
        """
