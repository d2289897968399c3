"""Room on the disk that stays free for the drain: what empties the journal writes, too.

- Work that makes the state grow is rejected while less than `floor` is free beside the write-ahead log. So messages
  wait at the broker before the journal has filled the disk, and the lanes have room to empty it.
- What others write may fill the disk all the same: a file of `RESERVE` bytes is then given up, and made again once
  there is room.
- Pages of the database that became free count as room, too: SQLite uses them again, and does not give them back.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import suppress
from pathlib import Path

from gateway.logs import get_logger

NAME = "reserve"
FLOOR = 64 << 20
RESERVE = 16 << 20
PART = 8
"""On a small disk: the floor is this part of it, and the reserve half of that."""

ADVICE = "the reserve is used to empty the journal; free some space"

log = get_logger(__name__)


class Room:
    """Room in one directory. Blocking, and used in one thread."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file = directory / NAME
        self._is_reserved = False
        self._fill()

    def problem(self, connection: sqlite3.Connection, wal_bytes: int) -> str:
        """Return why the state must not grow now, or an empty string."""
        free, floor = _disk(self._directory)
        if not self._is_reserved:
            self._fill()
        if free >= floor + wal_bytes and self._is_reserved:
            return ""
        if self._is_reserved and free >= floor // 4 and _freed(connection) >= floor + wal_bytes:
            return ""
        return (
            f"the disk of {self._directory} is full but for {free:,} bytes, which are kept for emptying the journal: "
            "messages wait at the broker; free some space"
        )

    def give_up(self) -> None:
        """Free the reserve, because something could not be written."""
        if self._is_reserved:
            self._is_reserved = False
            with suppress(OSError):
                self._file.unlink(missing_ok=True)
            log.warning("disk full", file=str(self._file), next=ADVICE)

    def _fill(self) -> None:
        size = min(RESERVE, _disk(self._directory)[1] // 2)
        try:
            descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if free_bytes(self._directory) + os.fstat(descriptor).st_blocks * 512 >= 2 * size:
                    os.posix_fallocate(descriptor, 0, size)
                    self._is_reserved = True
            finally:
                os.close(descriptor)
        except OSError as error:
            # Not for want of room: then it is a limit on files, say, and to reject everything would not help.
            self._is_reserved = error.errno not in {errno.ENOSPC, errno.EDQUOT}
        if not self._is_reserved:
            with suppress(OSError):
                self._file.unlink(missing_ok=True)


def _freed(connection: sqlite3.Connection) -> int:
    """Return the bytes of a database that are in use no more."""
    (pages,) = connection.execute("PRAGMA freelist_count").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    return int(pages * size)


def free_bytes(directory: Path) -> int:
    """Return the bytes that the disk of a directory has free; 0 where that cannot be found out."""
    try:
        found = os.statvfs(directory)
    except OSError:
        return 0
    return found.f_bavail * found.f_frsize


def _disk(directory: Path) -> tuple[int, int]:
    """Return the bytes that the disk of a directory has free, and those that stay free."""
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize, min(FLOOR, found.f_blocks * found.f_frsize // PART)
