"""A disk, as strict as POSIX allows.

- What was written to a file is durable after an fsync (or fdatasync) of that file that began later; so is its size.
- A name (created, renamed, removed) is durable after an fsync of its directory, and not by an fsync of the file.

What else may be kept is in `remains`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple

from tests.powercut.recording import Event, Kind

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
            put(self.durable, one.offset, one.data, b"\0")
            resize(self.durable, one.size, b"\0")


@dataclass(eq=False)
class Directory:
    kind: ClassVar[Literal["directory"]] = "directory"
    durable: dict[str, Node] = field(default_factory=dict)
    now: dict[str, Node] = field(default_factory=dict)
    pending: list[Naming] = field(default_factory=list)

    def change(self, moment: int, names: dict[str, Node | None]) -> None:
        rename(self.now, names)
        self.pending.append(Naming(moment, names))

    def sync(self, moment: int) -> None:
        while self.pending and self.pending[0].moment < moment:
            rename(self.durable, self.pending.pop(0).names)


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


def _kind(name: str) -> FileKind:
    return "database" if name.endswith(".db") else "file"


def put(content: bytearray, offset: int, data: bytes, filler: bytes) -> None:
    if offset > len(content):
        resize(content, offset, filler)
    content[offset : offset + len(data)] = data


def resize(content: bytearray, size: int, filler: bytes) -> None:
    if size <= len(content):
        del content[size:]
    else:
        missing = size - len(content)
        content += (filler * (missing // len(filler) + 1))[:missing]


def rename(names: dict[str, Node], changes: dict[str, Node | None]) -> None:
    for name, node in changes.items():
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node
