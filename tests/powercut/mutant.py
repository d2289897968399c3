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
    """A connection that fsyncs less than it is asked to."""

    level = "OFF"

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        asked = sql == "PRAGMA synchronous = FULL"
        return super().execute(f"PRAGMA synchronous = {self.level}" if asked else sql, parameters)


class _LessCareless(_Careless):
    level = "NORMAL"


def _careless(factory: type[_Careless], concerns: Callable[[str], bool]) -> None:
    """Fsync less in the databases whose file name says so."""
    real = sqlite3.connect

    def connect(database: Any, **options: Any) -> sqlite3.Connection:
        if concerns(Path(database).name):
            options["factory"] = factory
        connection: sqlite3.Connection = real(database, **options)
        return connection

    sqlite3.connect = connect  # type: ignore[assignment]


MUTANTS: dict[str, Callable[[], None]] = {
    "state-synchronous-off": partial(_careless, _Careless, lambda name: name == FILE_NAME),
    "state-synchronous-normal": partial(_careless, _LessCareless, lambda name: name == FILE_NAME),
    "store-synchronous-off": partial(_careless, _Careless, lambda name: name != FILE_NAME),
    "no-fsync-of-directories": lambda: setattr(private_files, "sync", lambda _: None),
}


if __name__ == "__main__":
    MUTANTS[sys.argv.pop(1)]()
    main()
