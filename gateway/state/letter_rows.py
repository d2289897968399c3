"""Rows of the table `dead_letters`, as they are written: see `gateway.state.dead_letters` and `refused_letters`."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import count, groupby
from typing import NamedTuple

from gateway.model import Rejection

OVERHEAD = 256
"""Bytes that a row takes with its entries in the indexes, beside what is in it."""
_INSERT = """
INSERT INTO dead_letters (startup, device, topic, arrived_ns, records, reasons, payload, cut, size)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""


class Row(NamedTuple):
    """Values of the columns but the last, which is `size`: the bytes that the row takes."""

    values: tuple[object, ...]
    size: int


def whole(rejection: Rejection, topic: str) -> Row:
    """Return the row of a rejection with its whole payload."""
    records = json.dumps(list(_runs(rejection.records)))
    reasons = json.dumps([reason.as_json() for reason in rejection.reasons], ensure_ascii=False)
    size = OVERHEAD + len(rejection.payload)
    size += sum(len(text.encode()) for text in (rejection.device, topic, records, reasons))
    startup, device, payload = rejection.startup, rejection.device, rejection.payload
    return Row((startup, device, topic, rejection.arrived_ns, records, reasons, payload, rejection.cut), size)


def within(rejection: Rejection, topic: str, largest: int) -> Row | None:
    """Return the row of a rejection, with as much of its payload as makes it at most `largest` bytes; None where even
    without it the row would be larger."""
    row = whole(rejection, topic)
    if row.size <= largest:
        return row
    room = len(rejection.payload) - (row.size - largest)
    return whole(rejection.shortened(room, len(rejection.records)), topic) if room >= 0 else None


def write(connection: sqlite3.Connection, rows: Iterable[Row]) -> None:
    """Write rows; runs inside `Database.write`."""
    connection.executemany(_INSERT, [(*row.values, row.size) for row in rows])


def _runs(records: Sequence[int]) -> Iterator[int | tuple[int, int]]:
    """Yield the positions of records; several that follow one another as the first and the last."""
    offset = count()
    for _, several in groupby(records, key=lambda position: position - next(offset)):
        run = list(several)
        yield run[0] if len(run) == 1 else (run[0], run[-1])
