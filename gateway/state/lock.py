"""One gateway a state directory: two would both count, and drain each other's journal.

Two kinds of lock, so that all forms of running exclude each other, and what an earlier run left behind, too:

- The state directory itself is held by the gateway: the process that is all of it, or the supervisor.
- `workers/N` is held by each worker, 0 in any case: one that outlives its supervisor still uses its state.

The locks are on the directories, not on files in them, which somebody might delete.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.errors import StateUnavailable
from gateway.state import private_files


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold a directory for this process; make it where it is missing. Blocking.

    Raises:
        StateUnavailable: it cannot be made, or another process holds it.
    """
    try:
        private_files.make_directory(directory)
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise StateUnavailable(f"{directory}: expected a directory to keep state in; {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StateUnavailable(f"{directory}: another gateway is running with this state directory") from None
        except OSError as error:
            raise StateUnavailable(
                f"{directory}: expected a file system with locks; {error.strerror}: keep the state on a local disk"
            ) from error
        yield
    finally:
        os.close(descriptor)
