"""Recordings of a state directory: made by a process with recorder.c, read as events."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

from tests.servers.processes import find

SOURCE = Path(__file__).parent / "recorder.c"
_HEADER = struct.Struct("=IIQQ")


class CannotRecord(Exception):
    """Nothing can be recorded here, or a recording is not complete; the message says why."""


class Kind(IntEnum):
    """Kinds of events; recorder.c has the same numbers."""

    OPEN = 1
    WRITE = 2
    TRUNCATE = 3
    SYNC_BEGIN = 4
    SYNC_END = 5
    RENAME = 6
    UNLINK = 7
    MKDIR = 8
    SEND = 9
    SENT = 10
    RECEIVE = 11
    UNKNOWN = 12


class Event(NamedTuple):
    """One event. `number` is an offset, a size, which call of fsync it is, or how much was sent."""

    kind: Kind
    inode: int
    number: int
    data: bytes

    @property
    def path(self) -> str:
        return os.fsdecode(self.data)


@dataclass(frozen=True)
class Before:
    """What happened before a recording began: numbers of messages by startup. `initial` are the inodes of the files and
    directories that the power cut before it left, by their path."""

    delivered: Mapping[str, Sequence[int]] = field(default_factory=dict)
    acknowledged: Mapping[str, Sequence[int]] = field(default_factory=dict)
    initial: Mapping[str, int] = field(default_factory=dict)


class Recording:
    """A directory with the log of a recording, what was there when it began, and what it left.

    `root` is the recorded directory. It must stay where it is while something is recorded; afterwards it may be moved.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.root = directory / "disk"
        self.initial = directory / "initial"
        self._log = directory / "log"
        self._before = directory / "before.json"
        self._was = directory / "root"

    def begin(self, before: Before, tree: Path | None = None) -> None:
        """Make the directory ready to be recorded: empty, or with the files of `tree`."""
        self.directory.mkdir(parents=True)
        self.initial.mkdir()
        if tree is not None:
            shutil.copytree(tree, self.initial, dirs_exist_ok=True)
        shutil.copytree(self.initial, self.root)
        inodes = {str(path.relative_to(self.root)): path.stat().st_ino for path in self.root.rglob("*")}
        self._before.write_text(json.dumps(asdict(before) | {"initial": inodes}))
        self._was.write_text(str(self.root.resolve()))

    def environment(self, broker_port: int) -> dict[str, str]:
        """Return what a process needs in its environment to be recorded.

        Raises:
            CannotRecord: there is no C compiler.
        """
        return {
            "LD_PRELOAD": str(compiled(self.directory)),
            "POWERCUT_DIR": str(self.root),
            "POWERCUT_LOG": str(self._log),
            "POWERCUT_PORT": str(broker_port),
        }

    @property
    def before(self) -> Before:
        return Before(**json.loads(self._before.read_text()))

    def events(self) -> Iterator[Event]:
        """Yield the events; paths are relative to the root.

        Raises:
            CannotRecord: something happened that the recorder does not know.
        """
        log, at = self._log.read_bytes(), 0
        prefix = os.fsencode(self._was.read_text()) + b"/"
        while at < len(log):
            size, kind, inode, number = _HEADER.unpack_from(log, at)
            at += _HEADER.size
            data = log[at : at + size]
            at += size
            if kind == Kind.UNKNOWN:
                raise CannotRecord(f"the recorder does not model {os.fsdecode(data)}")
            if kind in (Kind.OPEN, Kind.RENAME, Kind.UNLINK, Kind.MKDIR):
                data = b"\0".join(path.removeprefix(prefix) for path in data.split(b"\0"))
            yield Event(Kind(kind), inode, number, data)


def compiled(directory: Path) -> Path:
    """Compile the recorder; return the shared object.

    Raises:
        CannotRecord: there is no C compiler, or it fails.
    """
    compiler = find("cc")
    if compiler is None:
        raise CannotRecord("the recorder is compiled with `cc`, a C compiler, and there is none")
    made = directory / "recorder.so"
    done = subprocess.run(
        [compiler, "-shared", "-fPIC", "-O2", "-Wall", "-o", str(made), str(SOURCE)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise CannotRecord(f"{SOURCE} does not compile: {done.stderr}")
    return made
