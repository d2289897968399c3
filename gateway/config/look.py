"""Look at the files of a configuration directory, without reading them: two looks are equal if nothing has changed.

Names are bytes: they need not be UTF-8. Symbolic links are followed, so that a directory that is swapped is seen.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

Look = frozenset[tuple[bytes, int, int, int]]


def look(directory: Path) -> Look:
    """Return which YAML files there are, and when each has changed. Blocking.

    Raises:
        OSError: a directory cannot be read, which is no statement about its files.
    """
    return frozenset((*_files(directory), *_files(directory / "startups")))


def _files(directory: Path) -> Iterator[tuple[bytes, int, int, int]]:
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(os.fsencode(directory)) as entries:
        for entry in entries:
            if entry.name.endswith((b".yaml", b".yml")):
                yield entry.path, *_state(entry)


def _state(entry: os.DirEntry[bytes]) -> tuple[int, int, int]:
    try:
        found = entry.stat()
    except OSError:  # it has just gone, or its link points nowhere
        return 0, 0, 0
    return found.st_ino, found.st_size, found.st_ctime_ns
