"""The model of a disk: what is durable, and what a cut may leave."""

from __future__ import annotations

from random import Random

import pytest

from tests.powercut.disk import Disk, Ignores
from tests.powercut.recording import Event, Kind
from tests.powercut.remains import PAGE, SECTOR, Remains, Temper, present

NOTHING = Temper("nothing", SECTOR, 0.0)
HALF = Temper("half", SECTOR, 0.5)
ROOT = 1


def disk(*events: tuple[Kind, int, int, bytes], ignores: Ignores = "") -> Disk:
    made = Disk(ignores)
    for event in events:
        made.apply(Event(*event))
    return made


def left(made: Disk, temper: Temper = NOTHING, seed: int = 0) -> dict[str, bytes | None]:
    return Remains(made, temper, Random(seed)).tree


def created(name: bytes = b"a", inode: int = 2) -> tuple[Kind, int, int, bytes]:
    return Kind.OPEN, inode, 0, name


def written(data: bytes, offset: int = 0, inode: int = 2) -> tuple[Kind, int, int, bytes]:
    return Kind.WRITE, inode, offset, data


def synced(inode: int, call: int = 0) -> tuple[tuple[Kind, int, int, bytes], tuple[Kind, int, int, bytes]]:
    return (Kind.SYNC_BEGIN, inode, call, b""), (Kind.SYNC_END, inode, call, b"")


def test_name_is_durable_after_an_fsync_of_its_directory() -> None:
    """An fsync of a file keeps its content, and not its name; one of the directory keeps the name alone."""
    assert left(disk(created(), written(b"x"), *synced(2))) == {}
    assert left(disk(created(), written(b"x"), *synced(ROOT))) == {"a": b""}
    assert left(disk(created(), written(b"x"), *synced(2), *synced(ROOT))) == {"a": b"x"}


def test_directory_whose_name_is_lost_loses_all() -> None:
    """What is synced in a directory without a durable name is lost with it."""
    made = disk((Kind.MKDIR, 3, 0, b"d"), created(b"d/a"), written(b"x"), *synced(2), *synced(3))
    assert left(made) == {}
    made.apply(Event(Kind.SYNC_BEGIN, ROOT, 9, b""))
    made.apply(Event(Kind.SYNC_END, ROOT, 9, b""))
    assert left(made) == {"d": None, "d/a": b"x"}


def test_write_during_an_fsync_is_not_durable() -> None:
    """An fsync makes durable what was written before it began, once it has ended."""
    begin, end = synced(2)
    made = disk(created(), *synced(ROOT), written(b"x"), begin, written(b"y", 1))
    assert left(made) == {"a": b""}
    made.apply(Event(*end))
    assert left(made) == {"a": b"x"}


def test_disk_may_ignore_directories() -> None:
    """The control: a disk that never syncs a name."""
    assert left(disk(created(), *synced(2), *synced(ROOT), ignores="directory")) == {}


def test_rename_is_kept_as_a_whole() -> None:
    """Before an fsync of the directory either the old content or the new one has the name, and never neither."""
    made = disk(
        created(b"a", 2), written(b"old"), *synced(2), *synced(ROOT),
        created(b"new", 3), written(b"new", inode=3), *synced(3), (Kind.RENAME, 0, 0, b"new\0a"),
    )  # fmt: skip
    found = [left(made, HALF, seed) for seed in range(50)]
    assert {tree["a"] for tree in found} == {b"old", b"new"}
    assert all("new" not in tree or tree["a"] == b"old" for tree in found)


def test_removed_name_may_come_back() -> None:
    """A name that was removed is there until its directory is synced."""
    made = disk(created(), written(b"x"), *synced(2), *synced(ROOT), (Kind.UNLINK, 0, 0, b"a"))
    assert left(made) == {"a": b"x"}
    assert present(made) == {}


def test_sector_is_torn_from_others_and_whole_in_itself() -> None:
    """Of a write over several sectors any may be kept, each of them whole; what was durable in them stays."""
    before, after = b"a" * 100 + b"b" * 2 * SECTOR, b"c" * 2 * SECTOR
    made = disk(created(), written(before), *synced(2), *synced(ROOT), written(after, 100))
    found = {left(made, HALF, seed)["a"] for seed in range(200)}
    pieces = [(100, SECTOR), (SECTOR, 2 * SECTOR), (2 * SECTOR, 2 * SECTOR + 100)]
    expected = set()
    for kept in range(8):
        content = bytearray(before)
        for number, (start, end) in enumerate(pieces):
            if kept >> number & 1:
                content[start:end] = b"c" * (end - start)
        expected.add(bytes(content))
    assert found == expected


def test_writes_are_reordered() -> None:
    """The later of two writes may be kept without the earlier one, in another sector; in the same sector never."""
    made = disk(created(), written(bytes(2 * PAGE)), *synced(2), *synced(ROOT), written(b"1"), written(b"2", PAGE))
    made.apply(Event(Kind.WRITE, 2, 1, b"3"))
    found = {(content[:2], content[PAGE : PAGE + 1]) for seed in range(200) if (content := left(made, HALF, seed)["a"])}
    assert {head for head, _ in found} == {b"\0\0", b"1\0", b"13"}
    assert (b"\0\0", b"2") in found


def test_size_may_be_kept_without_the_content() -> None:
    """A file that has grown has its old or its new size, whatever was kept of its content."""
    made = disk(created(), *synced(2), *synced(ROOT), written(b"x" * SECTOR))
    assert {left(made, HALF, seed)["a"] for seed in range(50)} == {b"", bytes(SECTOR), b"x" * SECTOR}


@pytest.mark.parametrize("size", [0, SECTOR])
def test_truncation_is_durable_after_an_fsync(size: int) -> None:
    """Until then the old content may come back."""
    made = disk(created(), written(b"x" * 2 * SECTOR), *synced(2), *synced(ROOT), (Kind.TRUNCATE, 2, size, b""))
    assert left(made) == {"a": b"x" * 2 * SECTOR}
    made.apply(Event(Kind.SYNC_BEGIN, 2, 9, b""))
    made.apply(Event(Kind.SYNC_END, 2, 9, b""))
    assert left(made) == {"a": b"x" * size}


def test_inode_is_used_again() -> None:
    """A file that takes the inode of a removed one is another file."""
    made = disk(created(), written(b"x"), *synced(2), *synced(ROOT), (Kind.UNLINK, 0, 0, b"a"), created(b"b"))
    assert present(made) == {"b": b""}
    assert left(made) == {"a": b"x"}
