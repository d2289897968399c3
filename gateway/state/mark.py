"""Mark beside the state database: which file it is, and how many commits it holds at least.

SQLite starts without a word when its write-ahead log was cut, damaged or removed, or when the file was emptied. The
mark makes the difference visible:

- The database counts its own commits, in the row `commits` of sqlite_sequence: AUTOINCREMENT writes that page with
  every commit of ingest anyway, so that the count costs no further page.
- After a commit is on disk, its number is written to the mark, without fsync. So the mark never says more than the
  database holds, whatever a power cut leaves of both: a write-ahead log whose tail is torn is no loss, a database with
  fewer commits than the mark is.

On-disk format of `gateway.mark`, one line of text: the database's application id (8 hexadecimal digits), the number of
commits (20 digits), and the CRC-32 of both (8 hexadecimal digits), separated by blanks.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import zlib
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

from gateway.errors import StateUnavailable
from gateway.logs import get_logger
from gateway.state import private_files

NAME = "gateway.mark"
CHECKED_BYTES = 64 << 20
"""Bytes of a database whose pages are checked; a larger one takes too long."""
_LENGTH = 8 + 1 + 20 + 1 + 8 + 1

log = get_logger(__name__)


class Kept(NamedTuple):
    """Identity of a database, and the number of its commits."""

    ident: int
    commits: int


class Mark:
    """The mark of an open database. `count` is called in each transaction, `write` after its commit. Blocking."""

    def __init__(self, path: Path, kept: Kept) -> None:
        self.kept = kept
        private_files.make_file(path)
        self._file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        self._write()
        os.ftruncate(self._file, _LENGTH)
        os.fsync(self._file)

    @classmethod
    def of(cls, connection: sqlite3.Connection, database: Path) -> Mark:
        """Return the mark of a database that is open for writing; give it an identity if it has none."""
        kept = _kept(connection)
        if not kept.ident:
            kept = kept._replace(ident=secrets.randbelow(1 << 31) or 1)
            connection.execute(f"PRAGMA application_id = {kept.ident}")
        # A commit of its own: the last ones of a process that was killed may be in the system's memory alone, and
        # what the mark says must be on the disk. This one brings them there.
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(
            "INSERT INTO sqlite_sequence SELECT 'commits', 0 "
            "WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'commits')"
        )
        cls.count(connection)
        connection.execute("COMMIT")
        return cls(database.with_name(NAME), kept._replace(commits=_kept(connection).commits))

    @staticmethod
    def count(connection: sqlite3.Connection) -> None:
        """Count a commit, inside its transaction."""
        connection.execute("UPDATE sqlite_sequence SET seq = seq + 1 WHERE name = 'commits'")

    def write(self) -> None:
        """Write that one more commit is on disk."""
        self.kept = self.kept._replace(commits=self.kept.commits + 1)
        with suppress(OSError):  # it then says less than there is, which is no harm
            self._write()

    def close(self) -> None:
        os.close(self._file)

    def _write(self) -> None:
        text = f"{self.kept.ident:08x} {self.kept.commits:020d}".encode()
        os.pwrite(self._file, b"%b %08x\n" % (text, zlib.crc32(text)), 0)


def check(database: Path) -> None:
    """Check, before a database is opened for writing, that nothing which was committed is missing.

    It is opened for reading only: what is left of a damaged write-ahead log stays as it is.

    Raises:
        StateUnavailable: something is missing or damaged.
    """
    mark = database.with_name(NAME)
    kept, size, wal = _read(mark), _size(database), _size(database.with_name(f"{database.name}-wal"))
    if not size:
        if kept is not None or wal:
            commits = f"{kept.commits:,} commits" if kept else "further commits"
            state = "empty" if database.exists() else "missing"
            remedy = _REMEDY.format(mark=mark, wal=" and the -wal" if wal else "")
            raise StateUnavailable(
                f"{database}: expected the state that an earlier run left, {commits}; the file is {state}. {remedy}"
            )
        return
    if kept is None:
        log.info("no mark of an earlier run", file=str(mark), meaning="whether commits are missing cannot be known")
    found = kept or Kept(0, 0)
    try:
        uri = f"{database.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=10)) as connection:
            found = _kept(connection)
            damage = _damage(connection) if size <= CHECKED_BYTES else ""
    except sqlite3.OperationalError:
        return  # it is not damaged but cannot be read now, or was never finished: whoever opens it says why
    except sqlite3.DatabaseError as error:
        damage = str(error)
    if damage:
        raise StateUnavailable(
            f"{database}: expected a state file of the gateway; it is damaged: {damage}. {_DAMAGED.format(mark=mark)}"
        )
    if kept is not None and found.ident != kept.ident:
        raise StateUnavailable(
            f"{database}: expected the database of the last run; it is another one. {_REMEDY.format(mark=mark, wal='')}"
        )
    if kept is not None and found.commits < kept.commits:
        raise StateUnavailable(
            f"{database}: expected at least {kept.commits:,} commits, which were acknowledged; it has "
            f"{found.commits:,}: the file, or its write-ahead log, was cut, damaged or replaced. "
            f"{_REMEDY.format(mark=mark, wal='')}"
        )


_REMEDY = (
    "Nothing was changed. Put the right files back (gateway.db and gateway.db-wal belong together); or, to go on "
    "without what is missing, delete {mark}{wal}"
)
_DAMAGED = (
    "Nothing was changed. Save what can be read (sqlite3 gateway.db .recover), or restore a backup, or move the file "
    "and {mark} away to begin with an empty one"
)


def _kept(connection: sqlite3.Connection) -> Kept:
    (ident,) = connection.execute("PRAGMA application_id").fetchone()
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'").fetchone():
        return Kept(ident, 0)
    found = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'commits'").fetchone()
    return Kept(ident, int(found[0]) if found else 0)


def _damage(connection: sqlite3.Connection) -> str:
    (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    return "" if answer == "ok" else " ".join(str(answer).split())


def _read(path: Path) -> Kept | None:
    with suppress(OSError, ValueError):
        ident, commits, checksum = path.read_bytes().split()
        if int(checksum, 16) == zlib.crc32(b"%b %b" % (ident, commits)):
            return Kept(int(ident, 16), int(commits))
    return None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
