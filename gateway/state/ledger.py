"""Balance, per startup, of every record that ever arrived:

    received = accepted + rejected
    accepted = stored + journaled + refused

The counts change in the very transactions that move the records, and `journaled` is counted from the rows of the
journal and its intake, so that the ledger balances after any crash, or shows that something is wrong. Readings in the
intake are counted as received and accepted there: the ledger gets them when they are sorted, once for many commits.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from gateway.model import Counts

_ADD = """
INSERT INTO ledger VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (startup) DO UPDATE SET
    received = received + excluded.received, accepted = accepted + excluded.accepted,
    rejected = rejected + excluded.rejected, stored = stored + excluded.stored, refused = refused + excluded.refused
"""
_BALANCE = """
SELECT startup, received, accepted, rejected, stored,
    coalesce((SELECT sum(readings) FROM journal WHERE journal.startup = ledger.startup), 0), refused
FROM ledger WHERE ?1 IS NULL OR startup = ?1
"""
_INTAKE = """
SELECT key, CAST(coalesce(sum(CASE type WHEN 'array' THEN json_extract(value, '$[0]') END), 0) AS INTEGER)
FROM intake, json_each(CASE WHEN typeof(directory) = 'text' AND json_valid(directory) THEN directory ELSE '{}' END)
WHERE ?1 IS NULL OR key = ?1 GROUP BY key
"""


def add(connection: sqlite3.Connection, changes: Mapping[str, Counts]) -> None:
    """Add to the counts of each startup, except `journaled`, which is counted from the journal's rows."""
    rows = [(slug, c.received, c.accepted, c.rejected, c.stored, c.refused) for slug, c in changes.items()]
    connection.executemany(_ADD, rows)


def balance(connection: sqlite3.Connection, startup: str | None = None) -> dict[str, Counts]:
    """Return the ledger of every startup that ever sent something, or of one, sorted by name."""
    found = {slug: Counts(*counts) for slug, *counts in connection.execute(_BALANCE, (startup,))}
    for slug, readings in connection.execute(_INTAKE, (startup,)):
        found[slug] = found.get(slug, Counts()) + Counts(received=readings, accepted=readings, journaled=readings)
    return dict(sorted(found.items()))
