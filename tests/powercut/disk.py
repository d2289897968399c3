"""A disk, as strict as POSIX allows.

- What was written to a file is durable after an fsync (or fdatasync) of that file that began later; so is its size.
- A name (created, renamed, removed) is durable after an fsync of its directory, and not by an fsync of the file.
- Of the rest anything may be kept: each sector, each file's size and each name is as it was at any moment since it was
  last durable, whatever the others are. So writes are dropped, reordered and torn. A sector is written as a whole: what
  was durable in it stays (SQLite calls that powersafe overwrite, and relies on it).
- A rename within a directory is kept or not as a whole.
- Where a size was kept and the content was not, there are zeros, or whatever the blocks held before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import ClassVar, Literal, NamedTuple

from tests.powercut.recording import Event, Kind

SECTOR, PAGE = 512, 4096
MAPPED = "-shm"
"""SQLite's index of a write-ahead log: mapped memory, made anew at the start. Nobody can know what a disk has of it."""


FileKind = Literal["database", "file"]
Ignores = Literal["", "database", "directory"]


class Write(NamedTuple):
    """A change of a file's content since it was durable; a truncation has no data and `size` only."""

    moment: int
    offset: int
    data: bytes
    size: int
    """Size of the file after it."""


class Naming(NamedTuple):
    """A change of names in a directory: each name has a file, a directory, or nothing."""

    moment: int
    names: dict[str, Node | None]


@dataclass(eq=False)
class File:
    kind: FileKind = "file"
    durable: bytearray = field(default_factory=bytearray)
    pending: list[Write] = field(default_factory=list)
    size: int = 0

    def add(self, moment: int, offset: int, data: bytes) -> None:
        self.size = max(self.size, offset + len(data))
        self.pending.append(Write(moment, offset, data, self.size))

    def truncate(self, moment: int, size: int) -> None:
        gone = max(0, self.size - size)
        self.size = size
        self.pending.append(Write(moment, size, bytes(gone), size))

    def sync(self, moment: int) -> None:
        """Make durable what was pending before a moment."""
        while self.pending and self.pending[0].moment < moment:
            one = self.pending.pop(0)
            _put(self.durable, one.offset, one.data, b"\0")
            _resize(self.durable, one.size, b"\0")


@dataclass(eq=False)
class Directory:
    kind: ClassVar[Literal["directory"]] = "directory"
    durable: dict[str, Node] = field(default_factory=dict)
    now: dict[str, Node] = field(default_factory=dict)
    pending: list[Naming] = field(default_factory=list)

    def change(self, moment: int, names: dict[str, Node | None]) -> None:
        _name(self.now, names)
        self.pending.append(Naming(moment, names))

    def sync(self, moment: int) -> None:
        while self.pending and self.pending[0].moment < moment:
            _name(self.durable, self.pending.pop(0).names)


Node = File | Directory


class Disk:
    """Everything that was written, and what of it is durable. What it `ignores` it never syncs, as a control."""

    def __init__(self, ignores: Ignores = "") -> None:
        self.root = Directory()
        self.moment = 0
        self._ignores = ignores
        self._nodes: dict[int, Node] = {}
        self._began: dict[int, int] = {}

    def place(self, path: str, inode: int, content: bytes | None) -> None:
        """Put a durable file there, or a directory (None), before anything happens."""
        parent, name = self._parent(path)
        made: Node = Directory() if content is None else File(_kind(name), bytearray(content), size=len(content))
        parent.durable[name] = parent.now[name] = self._nodes[inode] = made

    def apply(self, event: Event) -> None:
        self.moment += 1
        match event.kind:
            case Kind.OPEN | Kind.MKDIR:
                self._create(event)
            case Kind.WRITE:
                self._file(event.inode).add(self.moment, event.number, event.data)
            case Kind.TRUNCATE:
                self._file(event.inode).truncate(self.moment, event.number)
            case Kind.SYNC_BEGIN:
                self._began[event.number] = self.moment
            case Kind.SYNC_END:
                node = self._nodes.get(event.inode, self.root)
                began = self._began.pop(event.number)
                if self._ignores != node.kind:
                    node.sync(began)
            case Kind.RENAME:
                self._rename(*event.path.split("\0"))
            case Kind.UNLINK:
                parent, name = self._parent(event.path)
                parent.change(self.moment, {name: None})
            case _:
                pass

    def _create(self, event: Event) -> None:
        parent, name = self._parent(event.path)
        if name in parent.now and parent.now[name] is self._nodes.get(event.inode):
            return  # it was there
        made: Node = Directory() if event.kind == Kind.MKDIR else File(_kind(name))
        self._nodes[event.inode] = made
        parent.change(self.moment, {name: made})

    def _rename(self, old: str, new: str) -> None:
        (source, was), (target, name) = self._parent(old), self._parent(new)
        node = source.now[was]
        if source is target:
            source.change(self.moment, {was: None, name: node})
        else:
            target.change(self.moment, {name: node})
            source.change(self.moment, {was: None})

    def _file(self, inode: int) -> File:
        node = self._nodes[inode]
        assert isinstance(node, File)
        return node

    def _parent(self, path: str) -> tuple[Directory, str]:
        *above, name = path.split("/")
        node: Node = self.root
        for one in above:
            assert isinstance(node, Directory)
            node = node.now[one]
        assert isinstance(node, Directory)
        return node, name

    def now(self) -> dict[str, bytes | None]:
        """Return what programs see: the content of each file, None for a directory, by path."""
        everything = Temper("everything", PAGE, 1.0)
        return Remains(self, everything, Random(0)).tree


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
                _name(names, one.names)
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
                    _put(content, start, one.data[start - one.offset : end - one.offset], filler)
                    kept += 1
            if one.size != before and self._takes(one.moment, "size", stopped):
                size = one.size
            before = one.size
            self._note(one.moment, kept, len(pieces))
        _resize(content, size, filler)
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


def _nodes(directory: Directory) -> Iterator[Node]:
    yield directory
    for node in directory.now.values():
        if isinstance(node, Directory):
            yield from _nodes(node)
        else:
            yield node


def _kind(name: str) -> FileKind:
    return "database" if name.endswith(".db") else "file"


def _units(write: Write, unit: int) -> Iterator[tuple[int, int, int]]:
    """Yield the sectors or pages that a write touches: their number, and the bytes of the write that lie in them."""
    at, end = write.offset, write.offset + len(write.data)
    while at < end:
        stop = min(end, (at // unit + 1) * unit)
        yield at // unit, at, stop
        at = stop


def _put(content: bytearray, offset: int, data: bytes, filler: bytes) -> None:
    if offset > len(content):
        _resize(content, offset, filler)
    content[offset : offset + len(data)] = data


def _resize(content: bytearray, size: int, filler: bytes) -> None:
    if size <= len(content):
        del content[size:]
    else:
        missing = size - len(content)
        content += (filler * (missing // len(filler) + 1))[:missing]


def _name(names: dict[str, Node], changes: dict[str, Node | None]) -> None:
    for name, node in changes.items():
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node
