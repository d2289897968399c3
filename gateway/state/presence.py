"""Whether the files of an open SQLite database are still those at its path.

Somebody may remove, move, replace or cut them: SQLite goes on writing into what it has open, and reports success.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

WAL_LIMIT = 16 << 20
"""Bytes to which SQLite cuts a write-ahead log that has become longer (`PRAGMA journal_size_limit`)."""
_BESIDE = ("-wal", "-shm")


class _Seen(NamedTuple):
    device: int
    inode: int
    size: int


class Presence:
    """Files of a database, as they were when it was opened. Three `stat` for each check."""

    def __init__(self, path: Path) -> None:
        """Note the files; the database has been written by the connection that holds it open."""
        self._paths = [os.fspath(path), *(f"{path}{suffix}" for suffix in _BESIDE)]
        self._seen = [_stat(path) for path in self._paths]

    @property
    def wal_bytes(self) -> int:
        return self._seen[1].size

    def problem(self) -> str:
        """Return what has become of a file, or an empty string; a file may grow."""
        for number, before in enumerate(self._seen):
            path = self._paths[number]
            try:
                now = _stat(path)
            except FileNotFoundError:
                return f"{path} was removed or moved"
            except OSError:
                continue  # a fault of the disk is no removal
            if now[:2] != before[:2]:
                return f"{path} was replaced by another file"
            if now.size < (before.size if number != 1 else min(before.size, WAL_LIMIT)):
                return f"{path} was cut from {before.size:,} to {now.size:,} bytes"
            if now.size != before.size:
                self._seen[number] = now
        return ""


def _stat(path: str) -> _Seen:
    found = os.stat(path)  # noqa: PTH116  # three times for each commit
    return _Seen(found.st_dev, found.st_ino, found.st_size)
