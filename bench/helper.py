"""Other side of `children.Helper`: a process that answers each line of JSON with one line."""

from __future__ import annotations

import json
import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any


def spec() -> dict[str, Any]:
    """Return what the process was started with: its first argument, as JSON."""
    read: dict[str, Any] = json.loads(sys.argv[1])
    return read


def say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


def asked() -> Iterator[dict[str, Any]]:
    """Yield questions, one after the other, until the other side closes."""
    for line in sys.stdin:
        yield json.loads(line)


def serve(answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Report ready, then answer until the other side closes."""
    say({"ready": True})
    for question in asked():
        say(answer(question))


class Inbox:
    """Questions, read without waiting, for a process that is busy with something else."""

    def __init__(self) -> None:
        self._read = b""
        self.closed = False

    def take(self) -> dict[str, Any] | None:
        """Return the next question, if there is one."""
        if b"\n" not in self._read and select.select((0,), (), (), 0)[0]:
            came = os.read(0, 1 << 16)
            self.closed = not came
            self._read += came
        line, newline, rest = self._read.partition(b"\n")
        if not newline:
            return None
        self._read = rest
        question: dict[str, Any] = json.loads(line)
        return question


def cpu_seconds() -> float:
    """Return the CPU time of this process since its start."""
    return time.process_time()
