"""Commands as child processes: each in a process group of its own, and nothing of the group outlives its block."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from tests.servers.waiting import WITHIN

PIPE = asyncio.subprocess.PIPE


@dataclass(frozen=True)
class Finished:
    """A command that has ended: its exit status, and what it printed on each stream."""

    code: int
    out: str
    err: str


@asynccontextmanager
async def started(
    *command: str, env: Mapping[str, str] | None = None, stdout: int | None = PIPE, stderr: int | None = PIPE
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start a command; kill its group when the block ends, however it ends."""
    process = await asyncio.create_subprocess_exec(
        *command, env=env, stdin=asyncio.subprocess.DEVNULL, stdout=stdout, stderr=stderr, start_new_session=True
    )
    try:
        yield process
    finally:
        kill_group(process)
        await process.wait()


async def output(process: asyncio.subprocess.Process) -> Finished:
    """Read what a command prints until it ends."""
    async with asyncio.timeout(WITHIN):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Finished(process.returncode, (out or b"").decode(), (err or b"").decode())


async def run(*command: str, env: Mapping[str, str] | None = None) -> Finished:
    """Run a command to its end."""
    async with started(*command, env=env) as process:
        return await output(process)


def kill_group(process: asyncio.subprocess.Process) -> None:
    """Kill a process that leads its group, and all others of the group."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
