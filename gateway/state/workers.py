"""The places of the workers' states: worker 0 has the state directory, worker N has `workers/N/` in it."""

from __future__ import annotations

from pathlib import Path

from gateway.state.database import FILE_NAME

WORKERS = "workers"
RETIRED = "left"
"""The file that marks a worker with nothing left to do. Its name is on disk since the first version with workers."""
MAX_WORKERS = 1000
"""One more than the highest worker number: `gateway.state.reader` builds dead letter ids from it."""


def home(state_dir: Path, worker: int) -> Path:
    """Return the directory of a worker's own state."""
    return state_dir if worker == 0 else state_dir / WORKERS / str(worker)


def lock_of(state_dir: Path, worker: int) -> Path:
    """Return the directory that a worker holds while it runs."""
    return state_dir / WORKERS / str(worker)


def workers(state_dir: Path) -> list[int]:
    """Return the workers other than the first that have, or once had, state of their own."""
    found = (state_dir / WORKERS).glob(f"*/{FILE_NAME}")
    return sorted(int(path.parent.name) for path in found if path.parent.name.isdecimal())


def retiring(state_dir: Path, count: int) -> list[int]:
    """Return the workers from `count` up that have not retired yet: the broker may hold messages for them."""
    gone = [worker for worker in workers(state_dir) if worker >= count]
    return [worker for worker in gone if not (home(state_dir, worker) / RETIRED).exists()]
