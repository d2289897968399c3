"""Sessions that the gateway may have at the broker, and the filters of each. The broker keeps them for as long as a
session lasts, so a filter or a session that is no longer wanted must be ended, also by a gateway that was away when it
was removed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from gateway.errors import StateUnavailable
from gateway.state import private_files


class SessionFile:
    """A file with the filters that each session may have, by the session's name. Blocking."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written: Mapping[str, Sequence[str]] | None = None

    def read(self) -> dict[str, list[str]]:
        """Return what was written; nothing where the file cannot be read, or is not of this form."""
        with suppress(OSError, ValueError):
            found = json.loads(self._path.read_text())
            if isinstance(found, dict):
                return {name: _strings(filters) for name, filters in found.items()}
        return {}

    def write(self, sessions: Mapping[str, Sequence[str]]) -> None:
        """Write the sessions down, before their filters are subscribed to.

        Raises:
            StateUnavailable: the file cannot be written.
        """
        if sessions == self._written:
            return
        try:
            private_files.write(self._path, json.dumps(sessions))
        except OSError as error:
            raise StateUnavailable(f"{self._path}: expected a file that can be written; {error.strerror}") from error
        self._written = sessions


def _strings(value: object) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []
