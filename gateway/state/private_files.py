"""Files and directories for their owner alone: they hold the telemetry of every startup."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path


def make_directory(path: Path) -> None:
    """Make a directory, and its missing parents, with mode 0700. An existing one stays as it is.

    Raises:
        OSError: it cannot be made, or is not a directory.
    """
    for parent in reversed(path.parents):
        if not parent.exists():
            parent.mkdir(mode=0o700, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)


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
    finally:
        Path(temporary).unlink(missing_ok=True)
