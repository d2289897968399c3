"""Processes that a benchmark starts, and ends by their pid."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).parents[1]
END_WITHIN = 10.0


class BenchError(Exception):
    """A benchmark cannot continue; the message is for the person who runs it."""


async def end(process: asyncio.subprocess.Process, within: float = END_WITHIN) -> None:
    """End with SIGTERM, and with SIGKILL if that takes too long."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), within)
    except TimeoutError:
        process.kill()
        await process.wait()


class Helper:
    """A module of `bench` as a process, which answers questions: `async with Helper("load", spec) as load`."""

    def __init__(self, module: str, spec: dict[str, Any], *, package: str = "bench") -> None:
        self._module = f"{package}.{module}"
        self._spec = spec
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        return self._running.pid

    def kill(self) -> None:
        """End it at once, whatever it does."""
        with suppress(ProcessLookupError):
            self._running.kill()

    async def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """Send a question, and return its answer."""
        stdin = self._running.stdin
        assert stdin is not None
        stdin.write(json.dumps(question).encode() + b"\n")
        with suppress(ConnectionError):  # it has ended: the missing answer shows it
            await stdin.drain()
        return await self._answer()

    @property
    def _running(self) -> asyncio.subprocess.Process:
        assert self._process is not None
        return self._process

    async def _answer(self) -> dict[str, Any]:
        stdout = self._running.stdout
        assert stdout is not None
        line = await stdout.readline()
        if not line:
            raise BenchError(f"{self._module} ended with status {await self._running.wait()}; see above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            self._module,
            json.dumps(self._spec),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
        )
        self.started = await self._answer()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await end(self._running)
