"""A server as a subprocess: found, started, waited for, stopped, killed, started again.

What holds for every server here:

- It listens on 127.0.0.1 only, on a port below the kernel's range for outgoing connections. So no
  client can be given the port of a server that is down, or connect to itself on it.
- Its port and directory stay the same over a restart.
- Each wait is bounded. What the server wrote on stderr is in `directory/stderr.log`.
- It is signalled by its pid, never by its name, and nothing is left running after `async with`.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

import pytest

LOOPBACK = "127.0.0.1"
MORE_PATHS = ("/usr/sbin", "/usr/local/sbin", "/sbin")
PORTS = range(18_000, 32_000)
START_SECONDS = 20.0
STOP_SECONDS = 10.0

_given: set[int] = set()


class ServerFailed(Exception):
    """A server did not start or did not stop; the message holds the end of its log."""


def find(binary: str) -> str | None:
    """The path of a program, looked up in PATH and where Debian keeps servers; None when it is absent."""
    return shutil.which(binary, path=os.pathsep.join([os.environ.get("PATH", os.defpath), *MORE_PATHS]))


def need(*binaries: str) -> None:
    """Skip the test when a program is absent; fail it when CI=true, where all of them must be there."""
    missing = [binary for binary in binaries if find(binary) is None]
    if not missing:
        return
    reason = f"not installed: {', '.join(missing)} (run `make servers`)"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def free_port() -> int:
    """A TCP port that nobody listens on at 127.0.0.1; never the same one twice in a process.

    Picked by the system's randomness: Hypothesis seeds `random`, and parallel runs would then collide.
    """
    for port in random.SystemRandom().sample(PORTS, len(PORTS)):
        if port not in _given and _is_free(port):
            _given.add(port)
            return port
    raise ServerFailed(f"no free port between {PORTS.start} and {PORTS.stop}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


class ServerProcess(ABC):
    """One server process.

    `directory` is made under `tmp_path` at the first start, named after program and port.
    Constructing it skips the test when the program is not installed (see `need`).
    """

    binary: ClassVar[str]
    scheme: ClassVar[str]

    def __init__(self, tmp_path: Path) -> None:
        need(self.binary)
        self.host = LOOPBACK
        self.port = free_port()
        self.directory = tmp_path / f"{self.binary}-{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def prepare(self) -> list[str]:
        """Write the server's configuration into `directory`; return its arguments. Called at each start."""

    @property
    def url(self) -> str:
        """Where it listens: scheme, host and port, no slash at the end."""
        return f"{self.scheme}://{self.host}:{self.port}"

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id; ServerFailed when it was never started."""
        if self._process is None:
            raise ServerFailed(f"{self.binary} was not started")
        return self._process.pid

    @property
    def log(self) -> str:
        """What the server wrote on stderr, over all its starts."""
        path = self.directory / "stderr.log"
        return path.read_text(errors="replace") if path.exists() else ""

    async def start(self) -> None:
        """Start it and return when it accepts connections; ServerFailed when it exits or takes too long."""
        if self.running:
            raise ServerFailed(f"{self.binary} is already running")
        self._process = await asyncio.to_thread(self._spawn)
        try:
            await self._accepts_connections()
        except BaseException:
            await self.kill()
            raise

    async def stop(self) -> None:
        """End it in good order (SIGTERM), by force when that takes too long; nothing when it is down."""
        if self._process is not None:
            self._process.terminate()
            if not await self._exited(STOP_SECONDS):
                await self.kill()

    async def kill(self) -> None:
        """End it at once (SIGKILL), as a crash would; nothing when it is down."""
        if self._process is not None:
            self._process.kill()
            if not await self._exited(STOP_SECONDS):
                raise ServerFailed(f"{self.binary} (pid {self._process.pid}) survives SIGKILL")

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def _spawn(self) -> subprocess.Popen[bytes]:
        self.directory.mkdir(parents=True, exist_ok=True)
        program = find(self.binary) or self.binary
        with (self.directory / "stderr.log").open("ab") as log:
            return subprocess.Popen(
                [program, *self.prepare()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
            )

    async def _accepts_connections(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if not self.running:
                raise ServerFailed(f"{self.binary} exited at its start\n{self.log[-2000:]}")
            if await _connects(self.host, self.port):
                return
            await asyncio.sleep(0.01)
        raise ServerFailed(f"{self.binary} does not listen after {START_SECONDS} s\n{self.log[-2000:]}")

    async def _exited(self, within: float) -> bool:
        deadline = time.monotonic() + within
        while self.running and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        return not self.running


async def _connects(host: str, port: int) -> bool:
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), 1.0)
    except OSError:
        return False
    writer.transport.abort()
    return True
