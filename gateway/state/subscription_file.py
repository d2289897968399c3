"""The filters that the session at the broker may have. The broker keeps them for as long as the session lasts, so a
filter that is no longer wanted must be dropped, also by a gateway that was away when it was removed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from gateway.errors import StateUnavailable
from gateway.state import private_files


class SubscriptionFile:
    """A file with every filter that the session has had. Blocking."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: list[str] | None = None

    def change(self, filters: Sequence[str]) -> list[str]:
        """Write these filters down before they are subscribed to; return the others that the session may have.

        Raises:
            StateUnavailable: the file cannot be written.
        """
        if self._known is None:
            self._known = self._read()
        unwanted = [name for name in self._known if name not in filters]
        wanted = [*filters, *unwanted]
        if wanted != self._known:
            self._write(wanted)
            self._known = wanted
        return unwanted

    def _read(self) -> list[str]:
        with suppress(OSError, ValueError):
            found = json.loads(self._path.read_text())
            if isinstance(found, list):
                return [name for name in found if isinstance(name, str)]
        return []

    def _write(self, filters: Sequence[str]) -> None:
        try:
            private_files.make_file(self._path)
            self._path.write_text(json.dumps(filters))
        except OSError as error:
            raise StateUnavailable(f"{self._path}: expected a file that can be written; {error.strerror}") from error
