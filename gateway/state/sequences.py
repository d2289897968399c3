"""Sequence numbers of devices: messages that never reached the gateway, that came again, or that came late.

A device counts its messages, and its rule says where (`seq`). What is known of each series of numbers changes in the
transaction that holds its readings and dead letters, so that a crash neither hides a gap nor makes one. The table
`sequences` is described in `gateway.state.database`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Container, Iterable
from dataclasses import dataclass, field, fields
from typing import Annotated, NamedTuple

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from gateway.line_protocol import device_of
from gateway.logs import get_logger

RANGES = 32
"""Gaps that are remembered with their numbers; of older ones only the count is."""
SEARCHED = 64 << 20
"""Bytes of a journal that are searched for one number."""
MAX_GAP = 1_000_000
"""A number further ahead than that is a new count, not a gap."""

log = get_logger(__name__)

Key = tuple[str, str, str]
"""Startup, device and measurement."""


Gap = Annotated[list[int], Field(min_length=2, max_length=2)]


@dataclass(slots=True)
class Sequence:
    """Numbers of one device and measurement, as they are kept on disk. `gaps` are pairs of the first and last number
    that is missing; of older gaps `forgotten` counts the numbers. `unread` messages were rejected over quota: their
    numbers look like gaps."""

    __pydantic_config__ = ConfigDict(strict=True)

    last: int | None = None
    gaps: list[Gap] = field(default_factory=list)
    forgotten: int = 0
    received: int = 0
    rejected: int = 0
    unread: int = 0
    repeated: int = 0
    late: int = 0
    restarts: int = 0

    def observe(self, number: int) -> None:
        """Take the next number that arrived."""
        last = self.last
        if last is not None and number <= last and not self._begins_anew(number, last):
            if self._fill(number):
                self.late += 1
                self.received += 1
            else:
                self.repeated += 1
            return
        if last is not None:
            if number <= last or number - last > MAX_GAP:
                self._restart()
            elif number > last + 1:
                self._open_gap(last + 1, number - 1)
        self.last = number
        self.received += 1

    def _begins_anew(self, number: int, last: int) -> bool:
        """Return whether a number that is not higher than the last one is the first of a new count."""
        return last - number > MAX_GAP or (number <= 1 < last and not self.is_missing(number))

    def is_plausible(self, number: int) -> bool:
        """Return whether a number that no schema has checked may be the device's."""
        return number >= 0 and self.last is not None and abs(number - self.last) <= MAX_GAP

    @property
    def missing(self) -> int:
        """Messages that never reached the gateway."""
        return max(0, self.forgotten + sum(end - first + 1 for first, end in self.gaps) - self.unread)

    def as_json(self) -> dict[str, object]:
        """Return it as the HTTP API does."""
        return {
            "last": self.last,
            "received": self.received,
            "rejected": self.rejected + self.unread,
            "missing": self.missing,
            "gaps": self.gaps,
            "repeated": self.repeated,
            "late": self.late,
            "restarts": self.restarts,
        }

    def kept(self) -> bytes:
        """Return what is kept on disk."""
        return _KEPT.dump_json(self)

    def is_missing(self, number: int) -> bool:
        """Return whether a number is in a gap that is remembered."""
        return any(first <= number <= end for first, end in self.gaps)

    def has(self, number: int) -> bool:
        """Return whether a number has arrived, as far as that is remembered."""
        return self.last is not None and number <= self.last and not self.is_missing(number)

    def _fill(self, number: int) -> bool:
        """Take a number out of its gap; return whether it was in one."""
        for i, (first, end) in enumerate(self.gaps):
            if first <= number <= end:
                self.gaps[i : i + 1] = [gap for gap in ([first, number - 1], [number + 1, end]) if gap[0] <= gap[1]]
                self._forget()
                return True
        return False

    def _open_gap(self, first: int, end: int) -> None:
        self.gaps.append([first, end])
        self._forget()

    def _restart(self) -> None:
        """Begin to count anew: numbers from before are not expected any more."""
        self.restarts += 1
        self.forgotten = self.forgotten + sum(end - first + 1 for first, end in self.gaps)
        self.gaps = []

    def _forget(self) -> None:
        while len(self.gaps) > RANGES:
            first, end = self.gaps.pop(0)
            self.forgotten += end - first + 1


_KEPT = TypeAdapter(Sequence)
_COUNTS = [one.name for one in fields(Sequence) if one.name not in {"last", "gaps"}]


class Arrival(NamedTuple):
    """A number that arrived, in a reading or in a rejected record, in a message that `waits` for the types of its
    fields, or in one that has `waited`."""

    key: Key
    number: int
    is_rejected: bool = False
    waits: bool = False
    waited: bool = False


Row = tuple[str, str, str, bytes]


class Sequences:
    """All sequences of a worker. The rows of what `observe` returns belong into the transaction of what it is from."""

    def __init__(self) -> None:
        self._known: dict[Key, Sequence] = {}

    def load(self, connection: sqlite3.Connection) -> None:
        """Load what an earlier run knew; runs inside `Database.read`."""
        for startup, device, measurement, kept in connection.execute("SELECT * FROM sequences"):
            if known := _read(kept):
                self._known[startup, device, measurement] = known
            else:
                log.error("sequence numbers not readable", startup=startup, device=device, next="they begin anew")

    def observe(self, arrivals: Iterable[Arrival], unread: Iterable[tuple[Key, int]]) -> set[Key]:
        """Take the numbers of a round, in order, and how many messages were rejected unread; return what changes. A
        device whose messages were all rejected is not known yet."""
        changed: set[Key] = set()
        for key, number, is_rejected, waits, waited in arrivals:
            known = self._known.get(key)
            if known is None:
                if is_rejected or waits:
                    continue
                known = self._known[key] = Sequence()
            elif (is_rejected or waits) and not known.is_plausible(number):
                continue
            if not (waited and known.has(number)):  # it was observed when it began to wait
                known.observe(number)
            known.rejected += is_rejected
            changed.add(key)
        for key, messages in unread:
            if known := self._known.get(key):
                known.unread += messages
                changed.add(key)
        return changed

    def rows(self, keys: Iterable[Key]) -> list[Row]:
        """Return the rows of these sequences, as they are now."""
        return [(*key, self._known[key].kept()) for key in keys if key in self._known]

    def forget(self, startups: Container[str]) -> None:
        """Forget all startups but these; what is on disk stays there."""
        self._known = {key: known for key, known in self._known.items() if key[0] in startups}


def save(connection: sqlite3.Connection, rows: Iterable[Row]) -> None:
    """Write the rows; runs inside `Database.write`."""
    connection.executemany("INSERT OR REPLACE INTO sequences VALUES (?, ?, ?, ?)", rows)


def of_device(connection: sqlite3.Connection, startup: str, device: str) -> dict[str, Sequence]:
    """Return the sequences of a device by measurement; runs inside `read_only`."""
    query = "SELECT measurement, kept FROM sequences WHERE startup = ? AND device = ?"
    found = {name: _read(kept) for name, kept in connection.execute(query, (startup, device))}
    return {name: one for name, one in found.items() if one is not None}


def _read(kept: bytes) -> Sequence | None:
    """Return what a row holds; None where it makes no sense."""
    try:
        return _KEPT.validate_json(kept)
    except ValidationError:
        return None


def combined(parts: list[Sequence]) -> Sequence:
    """Combine what several workers know of one sequence: a startup may have moved from one to another."""
    newest = max(parts, key=lambda one: one.last or 0)
    sums = {name: sum(getattr(one, name) for one in parts) for name in _COUNTS}
    gaps = sorted(gap for one in parts for gap in one.gaps)
    return Sequence(last=newest.last, gaps=gaps, **sums)


def is_waiting(
    connection: sqlite3.Connection, startup: str, device: str, measurement: str, wanted: tuple[str, str]
) -> bool | None:
    """Return whether the journal holds a reading of this device and measurement with one of two fields, such as
    `seq=7i`; None where it is too long to be read for that. Runs inside `read_only`."""
    found, begins = {one.encode() for one in wanted}, measurement.encode() + b","
    query = "SELECT data FROM intake UNION ALL SELECT lines FROM journal WHERE startup = ?"
    size = 0
    for (block,) in connection.execute(query, (startup,)):
        if any(one in block for one in found):
            for line in block.split(b"\0"):
                if line.startswith(begins) and device_of(line) == device and found & _fields(line):
                    return True
        size += len(block)
        if size > SEARCHED:
            return None
    return False


def _fields(line: bytes) -> set[bytes]:
    """Return the fields of a line of plain numbers, as they are written."""
    return set(line.rpartition(b" ")[0].rpartition(b" ")[2].split(b","))
