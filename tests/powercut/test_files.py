"""Files of the gateway other than databases: whoever was told that they are written finds them after a power cut."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from random import Random

import pytest

from tests.powercut.cutting import checked
from tests.powercut.recording import Before, CannotRecord, Recording
from tests.powercut.remains import SECTOR, Remains, Temper, present
from tests.servers import commands

NOTHING_UNSYNCED = Temper("nothing unsynced kept", SECTOR, 0.0)

PRIVATE = """
from gateway.state import private_files
private_files.make_directory(root / "a" / "b")
private_files.write(root / "a" / "b" / "file", "old")
private_files.write(root / "a" / "b" / "file", "new")
"""
LEFT_BY_A_KILLED_RUN = """
(root / "a" / "b").mkdir(parents=True)
private_files.sync(root)
private_files.make_directory(root / "a" / "b" / "c")
(root / "d").mkdir()
private_files.make_directory(root / "d")
"""
SECRET = """
from gateway.provision.secret_files import SecretFiles
secrets = SecretFiles(root / "secrets")
secrets.write("acme", "shown once")
secrets.write("birch", "revoked")
secrets.forget("birch")
"""
STARTUP = """
from gateway.provision.startup_files import NewStartup, add, add_device, remove
(root / "config").mkdir()
private_files.sync(root)
(root / "config" / "startups").mkdir()
private_files.sync(root / "config")
path = add(root / "config", NewStartup.parse("acme", "winter", None), "0" * 64)
add_device(path, "d1")
add(root / "config", NewStartup.parse("birch", "winter", None), "0" * 64)
remove(root / "config", "birch")
"""
EXPORT = """
import asyncio
from gateway.stores.export import export
from gateway.stores.sqlite import SqliteStore
from tests.builders import startup

async def run():
    acme = startup()
    store = SqliteStore(root / "store")
    await store.open()
    await store.write(acme.slug, [b"climate,device=d1 temperature=1.5 1000"])
    await export(acme, store, root / "export")
    await export(acme, SqliteStore(root / "none"), root / "nothing")
    await store.close()

asyncio.run(run())
"""


async def recorded(steps: str, directory: Path) -> Recording:
    """Record a program that ends; `root` is the recorded directory."""
    recording = Recording(directory / "recording")
    recording.begin(Before())
    try:
        environment = os.environ | recording.environment(broker_port=0)
    except CannotRecord as error:
        pytest.skip(str(error))
    head = f"from pathlib import Path\nfrom gateway.state import private_files\nroot = Path({str(recording.root)!r})\n"
    done = await commands.run(sys.executable, "-c", head + steps, env=environment)
    assert done.code == 0, done
    return recording


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param(PRIVATE, id="a private file"),
        pytest.param(LEFT_BY_A_KILLED_RUN, id="what a killed run left"),
        pytest.param(SECRET, id="a secret"),
        pytest.param(STARTUP, id="a startup's file"),
        pytest.param(EXPORT, id="an export"),
    ],
)
async def test_written_file_survives_a_power_cut(steps: str, tmp_path: Path) -> None:
    """With nothing kept but what was synced, all files are as they were written, name and content, and what was removed
    is gone."""
    disk = checked(await recorded(steps, tmp_path)).disk
    assert _own(Remains(disk, NOTHING_UNSYNCED, Random(0)).tree) == _own(present(disk))


def _own(tree: dict[str, bytes | None]) -> dict[str, bytes | None]:
    """Leave out what SQLite removes at the end: it does no harm where it comes back."""
    return {path: content for path, content in tree.items() if not path.endswith(("-wal", "-shm"))}


async def test_written_file_is_lost_without_a_sync(tmp_path: Path) -> None:
    """The control: without the fsyncs of the gateway's own files the same cut leaves nothing."""
    disk = checked(await recorded("private_files.sync = lambda _: None\n" + PRIVATE, tmp_path)).disk
    assert Remains(disk, NOTHING_UNSYNCED, Random(0)).tree == {}
