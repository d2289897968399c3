"""Assignment of startups to workers. Each worker has whole startups, so that the order of a device's messages, a
startup's quota and its session at the broker stay in one process.

The assignment is kept on disk: a startup stays with its worker for as long as that worker is configured, and a new one
goes to the worker with the smallest quotas in sum.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from gateway.config import Startup
from gateway.errors import StateUnavailable
from gateway.state import private_files


def assign(startups: Iterable[Startup], workers: int, before: Mapping[str, int]) -> dict[str, int]:
    """Return the worker of each startup by its slug. Pure."""
    weights = {startup.slug: startup.quota.messages for startup in startups}
    assigned = {slug: worker for slug, worker in before.items() if slug in weights and worker < workers}
    loads = [0.0] * workers
    for slug, worker in assigned.items():
        loads[worker] += weights[slug]
    for slug in sorted(weights.keys() - assigned.keys(), key=lambda slug: (-weights[slug], slug)):
        worker = loads.index(min(loads))
        assigned[slug] = worker
        loads[worker] += weights[slug]
    return assigned


class AssignmentFile:
    """Assignment of the last run, as JSON. Blocking."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> dict[str, int]:
        """Return what was written; nothing where the file cannot be read, or is not of this form."""
        with suppress(OSError, ValueError):
            found = json.loads(self._path.read_text())
            if isinstance(found, dict):
                return {slug: worker for slug, worker in found.items() if type(worker) is int and worker >= 0}
        return {}

    def write(self, assigned: Mapping[str, int]) -> None:
        """Write it down, so that the next run begins with it.

        Raises:
            StateUnavailable: the file cannot be written.
        """
        try:
            private_files.write(self._path, json.dumps(assigned))
        except OSError as error:
            raise StateUnavailable(f"{self._path}: expected a file that can be written; {error.strerror}") from error
