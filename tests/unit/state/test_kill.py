"""Writes that a killed process has reported are on disk."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gateway.state import ledger
from gateway.state.database import FILE_NAME, read_only
from tests.builders import ROOT

PROGRAM = """
import asyncio, sys
from pathlib import Path
from gateway.state.database import Database
from gateway.state.journal import Block, Journal

async def main():
    database = Database(Path(sys.argv[1]))
    await database.open()

    async def write(writer):
        for i in range(1_000_000):
            blocks = {"acme": Block.of([f"{writer} {i}"] * 3)}

            def work(connection):
                Journal.append(connection, blocks)

            await database.write(work)
            print(writer, i, flush=True)

    await asyncio.gather(*map(write, range(8)))

asyncio.run(main())
"""


@pytest.mark.parametrize("commits", [1, 40, 400])
def test_killed_while_writing(tmp_path: Path, commits: int) -> None:
    """After `kill -9` in the middle of many writes, all that was reported is there, whole and in order, and the
    ledger balances."""
    path = tmp_path / FILE_NAME
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(path)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    with process, process.stdout as output:
        reported = [output.readline() for _ in range(commits)]
        process.kill()
        reported += [line for line in output if line.endswith("\n")]
    rows = read_only(path, lambda connection: connection.execute("SELECT data FROM intake ORDER BY id").fetchall())
    blocks = [block.split(b"\0") for (block,) in rows]
    assert all(len(block) == 3 and len(set(block)) == 1 for block in blocks)
    kept = [block[0].decode() for block in blocks]
    assert {line.strip() for line in reported} <= set(kept)
    for writer in range(8):
        mine = [line for line in kept if line.startswith(f"{writer} ")]
        assert mine == [f"{writer} {i}" for i in range(len(mine))]
    counts = read_only(path, ledger.balance)["acme"]
    assert counts.balanced
    assert counts.journaled == 3 * len(kept)
