"""One process a state directory: two would both count, and drain each other's journal."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.errors import StateUnavailable
from gateway.state import private_files


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold a state directory for this process; make it where it is missing. Blocking.

    Raises:
        StateUnavailable: it cannot be made, or another process holds it.
    """
    try:
        private_files.make_directory(directory)
        private_files.make_file(directory / "lock")
        file = (directory / "lock").open("w")
    except OSError as error:
        raise StateUnavailable(f"{directory}: expected a directory to keep state in; {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StateUnavailable(f"{directory}: another gateway is running with this state directory") from None
        yield
