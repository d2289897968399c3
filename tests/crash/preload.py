"""Faults of a disk and of a clock below the gateway: `inject/faults.c`, preloaded, and its switches."""

from __future__ import annotations

import mmap
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from tests.servers import ServerFailed

SOURCE = Path(__file__).parent / "inject" / "faults.c"
SWITCHES = ("write_errno", "read_errno", "sync_errno", "sync_delay_us", "clock_s", "kill_write", "kill_sync")
"""Members of `struct control`, in its order."""


class Faults:
    """Switches of one gateway, in a file that it has mapped: they act at once, in all of its processes."""

    def __init__(self, path: Path, under: Path) -> None:
        path.write_bytes(bytes(8 * len(SWITCHES)))
        self._path = path
        self._under = under
        self._values = mmap.mmap(os.open(path, os.O_RDWR), 8 * len(SWITCHES))

    @property
    def env(self) -> Mapping[str, str]:
        """Return what the gateway's environment needs."""
        return {"LD_PRELOAD": library(), "CRASH_FAULTS": str(self._path), "CRASH_UNDER": str(self._under)}

    def __getitem__(self, switch: str) -> int:
        (value,) = struct.unpack_from("=q", self._values, 8 * SWITCHES.index(switch))
        return int(value)

    def set(self, **switches: int) -> None:
        """Set switches; the others stay as they are."""
        for name, value in switches.items():
            struct.pack_into("=q", self._values, 8 * SWITCHES.index(name), value)

    def clear(self) -> None:
        """End all faults."""
        self.set(**dict.fromkeys(SWITCHES, 0))

    @contextmanager
    def on(self, **switches: int) -> Iterator[None]:
        """Set switches until the block ends."""
        self.set(**switches)
        try:
            yield
        finally:
            self.set(**dict.fromkeys(switches, 0))


@cache
def library() -> str:
    """Compile the library, once a run; ServerFailed where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise ServerFailed("faults of a disk need a C compiler: install gcc and libc6-dev")
    made = Path(mkdtemp(prefix="gateway-crash-")) / "faults.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-o", str(made), str(SOURCE), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ServerFailed(f"{SOURCE.name} does not compile: {done.stderr}")
    return str(made)
