"""`python -m tests.powercut.mutant NAME run …`: the gateway with one guarantee missing, as a control.

What `kill -9` does not notice, a power cut must.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from gateway.__main__ import main
from gateway.state import private_files
from gateway.state.database import FILE_NAME


class _Careless(sqlite3.Connection):
    """A connection that never fsyncs."""

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        return super().execute("PRAGMA synchronous = OFF" if sql == "PRAGMA synchronous = FULL" else sql, parameters)


def _careless(concerns: Callable[[str], bool]) -> None:
    """Never fsync the databases whose file name says so."""
    real = sqlite3.connect

    def connect(database: Any, **options: Any) -> sqlite3.Connection:
        if concerns(Path(database).name):
            options["factory"] = _Careless
        connection: sqlite3.Connection = real(database, **options)
        return connection

    sqlite3.connect = connect  # type: ignore[assignment]


MUTANTS: dict[str, Callable[[], None]] = {
    "state-synchronous-off": partial(_careless, lambda name: name == FILE_NAME),
    "store-synchronous-off": partial(_careless, lambda name: name != FILE_NAME),
    "no-fsync-of-directories": lambda: setattr(private_files, "sync", lambda _: None),
}


if __name__ == "__main__":
    MUTANTS[sys.argv.pop(1)]()
    main()
