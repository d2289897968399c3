"""Checks around each commit: that its files are still there, that it is counted, that the disk has room.

When the files of the open database were removed, moved, replaced or cut, nothing that makes the state grow is accepted
any more, so that nothing further is acknowledged. All else goes on in what is still open, so that the lanes store what
is in it; at the end the rest is saved: see `close`. Blocking; used in the writer's thread.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from itertools import count
from pathlib import Path

from gateway.errors import StateUnavailable
from gateway.logs import get_logger
from gateway.state import private_files
from gateway.state.mark import NAME as MARK
from gateway.state.mark import Mark
from gateway.state.presence import Presence
from gateway.state.room import Room

RESCUED = ".rescued"
ADVICE = (
    "nothing is acknowledged any more; the gateway stores what it can, saves the rest and ends. Keep other programs "
    "away from the state directory, and start the gateway again"
)

log = get_logger(__name__)


class Guard:
    """Guards the file of a writer. `lost` is called once, in the writer's thread, when the files are not there."""

    def __init__(self, writer: sqlite3.Connection, path: Path, lost: Callable[[], object]) -> None:
        self._writer = writer
        self._path = path
        self._lost = lost
        self._mark = Mark.of(writer, path)
        self._presence = Presence(path)
        self._room = Room(path.parent)
        self._was_full = False
        self.problem = ""

    def check(self) -> str:
        """Return what has become of the files, or an empty string."""
        if not self.problem and (problem := self._presence.problem()):
            self.problem = f"{problem} while the gateway was running"
            log.error("state lost", problem=self.problem, next=ADVICE)
            self._lost()
        return self.problem

    def refusal(self) -> StateUnavailable | None:
        """Return why work that makes the state grow is not accepted."""
        try:
            problem = self.check() or self._room.problem(self._writer, self._presence.wal_bytes)
            if problem and not self._was_full:
                self._checkpoint()
            self._was_full = bool(problem)
        except (OSError, sqlite3.Error) as error:
            problem = f"the gateway's state cannot be checked: {error}"
        return StateUnavailable(problem) if problem else None

    def count(self) -> None:
        """Count a commit, inside its transaction."""
        self._mark.count(self._writer)

    def committed(self) -> StateUnavailable | None:
        """Note a commit; return why it does not count for work that makes the state grow."""
        if problem := self.check():
            return StateUnavailable(problem)
        self._mark.write()
        return None

    def failed(self, error: object) -> None:
        """Make room, where a failure was for want of it."""
        if isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
            self._room.give_up()
            self._checkpoint()

    def _checkpoint(self) -> None:
        """Empty the write-ahead log while there is room for it, so that it can be written from its beginning."""
        with suppress(sqlite3.Error):
            self._writer.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def close(self) -> None:
        """Close the writer; save what only it can still read."""
        if self.check():
            self._rescue()
        self._writer.close()
        self._mark.close()

    def _rescue_names(self) -> Iterator[Path]:
        """Yield names for what is rescued: an earlier one may be all that is left of something else."""
        name = f"{self._path.name}{RESCUED}"
        yield self._path.with_name(name)
        yield from (self._path.with_name(f"{name}-{number}") for number in count(2))

    def _rescue(self) -> None:
        """Write all that the lost files hold to their path, or beside the file that is there now."""
        is_free = not self._path.exists()
        target = next(path for path in self._rescue_names() if not path.exists())
        try:
            private_files.make_directory(target.parent)
            private_files.make_file(target)
            with closing(sqlite3.connect(target)) as copy:
                self._writer.backup(copy)
            if is_free:
                for suffix in ("-wal", "-shm"):
                    self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
                self._path.with_name(MARK).unlink(missing_ok=True)
                target = target.replace(self._path)
            private_files.sync(target.parent)
        except (OSError, sqlite3.Error) as error:
            log.error("state not saved", file=str(target), problem=str(error), meaning=GONE)  # noqa: TRY400  # said in words
            return
        log.warning("state saved", file=str(target), next="start the gateway again" if is_free else MOVE)


GONE = "what was in its journal and is not stored is lost, and its ledger"
MOVE = "compare it with the file that was put in its place, and move the right one there"
