"""What a power cut leaves of a disk: what is durable, and of the rest anything.

- Each sector, each file's size and each name is as it was at any moment since it was last durable, whatever the others
  are. So writes are dropped, reordered and torn. A sector is written as a whole: what was durable in it stays (SQLite
  calls that powersafe overwrite, and relies on it).
- A rename within a directory is kept or not as a whole.
- Where a size was kept and the content was not, there are zeros, or whatever the blocks held before.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import NamedTuple

from tests.powercut.disk import Directory, Disk, File, Node, Write, put, rename, resize

SECTOR, PAGE = 512, 4096
MAPPED = "-shm"
"""SQLite's index of a write-ahead log: mapped memory, made anew at the start. Nobody can know what a disk has of it."""


class Temper(NamedTuple):
    """Mood of a disk in a cut. Each unit of `unit` bytes, each size and each name takes its next state with the chance
    `keep`; with `until` everything before that moment is kept, and nothing after it, whatever `keep` says."""

    name: str
    unit: int
    keep: float
    until: int | None = None
    stale: bool = False
    """Whether blocks without content hold what was there before, instead of zeros."""


def temper(disk: Disk, chance: Random) -> Temper:
    """Draw one."""
    stale = chance.random() < 0.25
    moments = sorted(one.moment for node in _nodes(disk.root) for one in node.pending)
    match chance.choices(("nothing", "everything", "in order", "pages", "sectors"), (2, 1, 2, 2, 4))[0]:
        case "nothing":
            return Temper("nothing unsynced kept", SECTOR, 0.0, stale=stale)
        case "everything":
            return Temper("everything kept", SECTOR, 1.0, stale=stale)
        case "in order":
            until = chance.choice(moments) if moments else 0
            return Temper("kept in order", SECTOR, chance.random(), until=until, stale=stale)
        case "pages":
            return Temper("any pages kept", PAGE, chance.random(), stale=stale)
        case _:
            return Temper("any sectors kept", SECTOR, chance.random(), stale=stale)


class Remains:
    """What a cut leaves: `tree` has the content of each file, None for a directory, by path.

    `dropped` and `torn` count writes that were lost, wholly or in part; `reordered` says whether something was kept
    that came after something that was lost.
    """

    def __init__(self, disk: Disk, temper: Temper, chance: Random) -> None:
        self.tree: dict[str, bytes | None] = {}
        self.dropped = self.torn = 0
        self._first_lost, self._last_kept = disk.moment + 1, -1
        self._temper = temper
        self._chance = chance
        self._walk(disk.root, "")

    @property
    def reordered(self) -> bool:
        return self._last_kept > self._first_lost

    def _walk(self, directory: Directory, prefix: str) -> None:
        for name, node in self._names(directory).items():
            if isinstance(node, Directory):
                self.tree[prefix + name] = None
                self._walk(node, f"{prefix}{name}/")
            else:
                self.tree[prefix + name] = self._content(node, name)

    def _names(self, directory: Directory) -> dict[str, Node]:
        names, stopped = dict(directory.durable), set[object]()
        for one in directory.pending:
            kept = not stopped & one.names.keys() and self._keeps(one.moment)
            if kept:
                rename(names, one.names)
            else:
                stopped |= one.names.keys()
            self._note(one.moment, int(kept), 1)
        return names

    def _content(self, file: File, name: str) -> bytes:
        if name.endswith(MAPPED) and self._temper.keep < 1:
            return self._chance.randbytes(file.size)
        filler = self._chance.randbytes(SECTOR) if self._temper.stale else b"\0"
        content, size, before = bytearray(file.durable), len(file.durable), len(file.durable)
        stopped: set[object] = set()
        for one in file.pending:
            kept = 0
            pieces = list(_units(one, self._temper.unit))
            for unit, start, end in pieces:
                if self._takes(one.moment, unit, stopped):
                    put(content, start, one.data[start - one.offset : end - one.offset], filler)
                    kept += 1
            if one.size != before and self._takes(one.moment, "size", stopped):
                size = one.size
            before = one.size
            self._note(one.moment, kept, len(pieces))
        resize(content, size, filler)
        return bytes(content)

    def _takes(self, moment: int, unit: object, stopped: set[object]) -> bool:
        """Return whether a unit takes its next state; if not, it keeps what it has for good."""
        if unit in stopped:
            return False
        if self._keeps(moment):
            return True
        stopped.add(unit)
        return False

    def _keeps(self, moment: int) -> bool:
        until = self._temper.until
        if until is not None and moment != until:
            return moment < until
        return self._temper.keep > 0 and self._chance.random() < self._temper.keep

    def _note(self, moment: int, kept: int, of: int) -> None:
        if kept:
            self._last_kept = max(self._last_kept, moment)
        if kept < of:
            self._first_lost = min(self._first_lost, moment)
            self.dropped += kept == 0
            self.torn += kept > 0


def present(disk: Disk) -> dict[str, bytes | None]:
    """Return what programs see: the content of each file, None for a directory, by path."""
    return Remains(disk, Temper("everything", PAGE, 1.0), Random(0)).tree


def _nodes(directory: Directory) -> Iterator[Node]:
    yield directory
    for node in directory.now.values():
        if isinstance(node, Directory):
            yield from _nodes(node)
        else:
            yield node


def _units(write: Write, unit: int) -> Iterator[tuple[int, int, int]]:
    """Yield the sectors or pages that a write touches: their number, and the bytes of the write that lie in them."""
    at, end = write.offset, write.offset + len(write.data)
    while at < end:
        stop = min(end, (at // unit + 1) * unit)
        yield at // unit, at, stop
        at = stop
