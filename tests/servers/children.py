"""Living children of this process, so that no test leaves one behind.

On Linux this process adopts the orphans among its descendants: a process whose parent has ended is seen as well.
Where there is no /proc, no child is seen.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
TASKS = Path("/proc/self/task")
GRACE = 20.0
"""Seconds for what is ending already, such as the helpers of a browser that was closed."""


def adopt_orphans() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def living() -> set[int]:
    """Return the process ids of the children that have not ended."""
    found: set[int] = set()
    for task in TASKS.glob("*/children"):
        with suppress(OSError):  # a thread that has just ended
            found.update(map(int, task.read_text().split()))
    return {pid for pid in found if lives(pid)}


def lives(pid: int) -> bool:
    """Return whether a process has not ended; one that nobody has waited for yet has ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def end_all_but(expected: Collection[int]) -> list[str]:
    """Kill every child but the expected ones; return the command lines of those that did not end by themselves."""
    give_up = time.monotonic() + GRACE
    while living() - set(expected) and time.monotonic() < give_up:
        time.sleep(0.01)
    killed: dict[int, str] = {}
    while left := living() - set(expected):  # again: they take a moment to end, and may leave orphans
        for pid in left:
            killed.setdefault(pid, _command_line(pid))
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
    return [f"{pid}: {line}" for pid, line in killed.items()]


def _command_line(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return "it has just ended"
