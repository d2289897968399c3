"""CPU and memory of processes, from /proc. Linux only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
MIB = 1 << 20


def family(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    return [pid, *_descendants(pid)]


def _descendants(pid: int) -> Iterator[int]:
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return
    for child in children:
        yield child
        yield from _descendants(child)


def cpu_seconds(pid: int) -> float:
    """Return user and system time of a process, its threads and descendants, and children that have ended."""
    return sum(_cpu_ticks(one) for one in family(pid)) / _TICKS


def _cpu_ticks(pid: int) -> int:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    fields = stat.rpartition(")")[2].split()
    return sum(map(int, fields[11:15]))


def resident_mib(pid: int) -> float:
    """Return the resident memory of a process and its descendants; shared pages count for each."""
    return sum(_resident_bytes(one) for one in family(pid)) / MIB


def _resident_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except OSError:
        return 0


def peak_mib(pid: int) -> float:
    """Return the most memory that a process and its descendants have had resident since `forget_peak`, or their start;
    each at its own worst moment."""
    return sum(map(_peak_kib, family(pid))) / 1024


def forget_peak(pid: int) -> None:
    """Let `peak_mib` begin at what is resident now."""
    for one in family(pid):
        with suppress(OSError):
            Path(f"/proc/{one}/clear_refs").write_text("5")


def _peak_kib(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")), 0)
