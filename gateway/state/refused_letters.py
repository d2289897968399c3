"""Dead letters of accepted readings that a store refused: in the same table as rejections, and counted apart.

Invariant: none is ever dropped to make room, and none is cut. Those of one startup have as many bytes as its other dead
letters, `dead_letters.max_size`, and once those are full its lane waits: the readings stay in the journal.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from gateway.config.models import DeadLetterSettings
from gateway.errors import DeadLettersFull
from gateway.model import Rejection
from gateway.state import letter_rows

REFUSED_TOPIC = ""
"""Topic of what a store refused."""

_TABLE = """
CREATE TABLE refused_totals (startup TEXT PRIMARY KEY, letters INTEGER NOT NULL, bytes INTEGER NOT NULL) WITHOUT ROWID
"""
_FOUND = """
INSERT INTO refused_totals SELECT startup, count(*), sum(size) FROM dead_letters WHERE topic = '' GROUP BY startup
"""
_NOT_TWICE = """
UPDATE letter_totals
SET letters = letter_totals.letters - refused.letters, bytes = letter_totals.bytes - refused.bytes
FROM refused_totals AS refused WHERE refused.startup = letter_totals.startup
"""
_ADD_TOTALS = """
INSERT INTO refused_totals VALUES (?, ?, ?) ON CONFLICT (startup) DO UPDATE SET
    letters = letters + excluded.letters, bytes = bytes + excluded.bytes
"""


def prepare(connection: sqlite3.Connection) -> None:
    """Create the table of totals, where there is none, from the dead letters that are there."""
    if connection.execute("SELECT 1 FROM pragma_table_info('refused_totals')").fetchone():
        return
    connection.executescript(f"BEGIN; {_TABLE}; {_FOUND}; {_NOT_TWICE}; COMMIT;")


def insert(
    connection: sqlite3.Connection, startup: str, rejections: Sequence[Rejection], bounds: DeadLetterSettings
) -> None:
    """Keep refused readings of one startup; runs inside `Database.write`.

    Raises:
        DeadLettersFull: there is no room for all of them. Where none is kept yet, there always is.
    """
    rows = [letter_rows.whole(rejection, REFUSED_TOPIC) for rejection in rejections]
    size = sum(row.size for row in rows)
    held = connection.execute("SELECT bytes FROM refused_totals WHERE startup = ?", (startup,)).fetchone()
    if held and held[0] and held[0] + size > bounds.max_size:
        raise DeadLettersFull(
            f"the store refused {len(rows):,} more readings, and there is no room to keep them: the refused ones of "
            f"this startup take {held[0]:,} bytes of dead_letters.max_size, {bounds.max_size:,}. Readings wait in the "
            "journal; replay the dead letters once the store accepts them, or raise that setting"
        )
    connection.execute(_ADD_TOTALS, (startup, len(rows), size))
    letter_rows.write(connection, rows)
