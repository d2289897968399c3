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
import fcntl
import os
import random
import shutil
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import IO, ClassVar, Self

import pytest

from tests.servers.waiting import WITHIN

LOOPBACK = "127.0.0.1"
MORE_PATHS = ("/usr/sbin", "/usr/local/sbin", "/sbin")
PORTS = range(18_000, 32_000)

_given: set[int] = set()


class ServerFailed(Exception):
    """A server did not start or did not stop; the message holds the end of its log."""


def find(binary: str) -> str | None:
    """Return the path of a program, looked up in PATH and where Debian keeps servers; None when it is absent."""
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
    """Return a TCP port that nobody listens on at 127.0.0.1; never one that was given before, also to tests that run
    at the same time: while its server is down, nobody else gets it.

    Picked by the system's randomness: Hypothesis seeds `random`, and parallel runs would then try the same ones.
    """
    for port in random.SystemRandom().sample(PORTS, len(PORTS)):
        if port not in _given and _is_free(port) and _is_reserved(port):
            _given.add(port)
            return port
    raise ServerFailed(f"no free port between {PORTS.start} and {PORTS.stop}")


def _is_reserved(port: int) -> bool:
    """Lock the port's byte of a file for as long as this process lives; False where another one has it."""
    try:
        fcntl.lockf(_reservations(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    return True


@cache
def _reservations() -> IO[bytes]:
    return (Path(tempfile.gettempdir()) / f"testbed-gateway-ports-{os.getuid()}").open("ab")


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
        """Address at which it listens: scheme, host and port, no slash at the end."""
        return f"{self.scheme}://{self.host}:{self.port}"

    @property
    def running(self) -> bool:
        """True while the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Process id; ServerFailed when it was never started."""
        if self._process is None:
            raise ServerFailed(f"{self.binary} was not started")
        return self._process.pid

    @property
    def log(self) -> str:
        """Output of the server on stderr, over all its starts."""
        path = self.directory / "stderr.log"
        return path.read_text(errors="replace") if path.exists() else ""

    async def start(self) -> None:
        """Start it and return when it accepts connections; ServerFailed when it exits or takes too long."""
        if self.running:
            raise ServerFailed(f"{self.binary} is already running")
        self._process = self._spawn()  # not in a thread: whoever is cancelled meanwhile would not know of it
        try:
            await self._accepts_connections()
        except BaseException:
            await self.kill()
            raise

    async def stop(self) -> None:
        """End it in good order (SIGTERM), by force when that takes too long; nothing when it is down."""
        if self._process is not None:
            self._process.terminate()
            if not await self._exited():
                await self.kill()

    async def kill(self) -> None:
        """End it at once (SIGKILL), as a crash would; nothing when it is down."""
        if self._process is not None:
            self._process.kill()
            if not await self._exited():
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
                start_new_session=True,  # Ctrl-C is for the tests, which stop it in order
            )

    async def _accepts_connections(self) -> None:
        deadline = time.monotonic() + WITHIN
        while time.monotonic() < deadline:
            if not self.running:
                raise ServerFailed(f"{self.binary} exited at its start\n{self.log[-2000:]}")
            if await connects(self.host, self.port):
                return
            await asyncio.sleep(0.01)
        raise ServerFailed(f"{self.binary} does not listen after {WITHIN:g} s\n{self.log[-2000:]}")

    async def _exited(self) -> bool:
        deadline = time.monotonic() + WITHIN
        while self.running and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        return not self.running


async def connects(host: str, port: int) -> bool:
    """Return whether somebody accepts connections there."""
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.transport.abort()
    return True
