"""Files and directories for their owner alone: they hold the telemetry of every startup.

What these functions have made survives a power cut once they return, the names included: POSIX promises a name only
when its directory is fsynced, and what is in a file that has no name is lost. SQLite does this for its own files: with
the first fsync of a write-ahead log it fsyncs the directory, and with it the name of the database.
"""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import suppress
from itertools import takewhile
from pathlib import Path

_HAS_NONE = {errno.EINVAL, errno.ENOTSUP, errno.EROFS}
"""Answers of file systems that have no fsync of a directory: their names need none, or there is no remedy."""


def make_directory(path: Path) -> None:
    """Make a directory, and its missing parents, with mode 0700. An existing one stays as it is.

    Raises:
        OSError: it cannot be made, or is not a directory.
    """
    missing = list(takewhile(lambda one: not one.exists(), (path, *path.parents)))
    # The nearest one that exists may have been made by a run that was killed before its name was on disk.
    sync(missing[-1].parent.parent if missing else path.parent)
    for one in reversed(missing or [path]):
        one.mkdir(mode=0o700, exist_ok=True)
        sync(one.parent)


def make_file(path: Path) -> None:
    """Make an empty file with mode 0600, unless it exists; SQLite gives its own files beside it the same mode. Where it
    cannot be made, the code that opens it next reports why."""
    with suppress(OSError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def write(path: Path, text: str) -> None:
    """Write a file with mode 0600 as a whole, in place of an older one, or not at all; its directory exists.

    Raises:
        OSError: it cannot be written.
    """
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")  # created with mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
        sync(path.parent)
    finally:
        Path(temporary).unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Remove a file, unless it is gone; a power cut does not bring it back.

    Raises:
        OSError: it cannot be removed.
    """
    with suppress(FileNotFoundError):
        path.unlink()
        sync(path.parent)


def sync(path: Path) -> None:
    """Put a file's content on disk, or the names in a directory: those that were added, changed or removed.

    A directory that may be entered but not read is left out: somebody else has made it.

    Raises:
        OSError: it may not be on disk.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _HAS_NONE:
            raise
    finally:
        os.close(descriptor)
