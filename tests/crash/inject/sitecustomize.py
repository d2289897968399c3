"""Kill point: the process sends itself SIGKILL at a call of one function of the gateway, named by its import path.

Python imports this file at the start of each process that finds its directory in PYTHONPATH: the gateway, and the
workers that it starts. So the product has no code for it. CRASH_POINT is what `tests.crash.points.Point` writes.
"""

from __future__ import annotations

import importlib
import inspect
import itertools
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any


def arm(point: dict[str, Any]) -> None:
    """Wrap the function of a point: its call number `call` ends the process."""
    module, _, name = point["function"].partition(":")
    owner: Any = importlib.import_module(module)
    *path, last = name.split(".")
    for part in path:
        owner = getattr(owner, part)
    setattr(owner, last, _wrapped(getattr(owner, last), point, itertools.count(1)))


def _wrapped(function: Callable[..., Any], point: dict[str, Any], calls: itertools.count[int]) -> Callable[..., Any]:
    @contextmanager
    def dying() -> Iterator[None]:
        if next(calls) != point["call"] or not _claim(Path(point["tokens"]), point["times"]):
            yield
            return
        if point["when"] == "before":
            _die()
        if point["when"] == "within":
            threading.Thread(target=_die, args=(point["delay"],), daemon=True).start()
        yield
        if point["when"] == "after":
            _die()

    @wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        with dying():
            return function(*arguments, **options)

    @wraps(function)
    async def call_async(*arguments: Any, **options: Any) -> Any:
        with dying():
            return await function(*arguments, **options)

    return call_async if inspect.iscoroutinefunction(function) else call


def _claim(tokens: Path, times: int) -> bool:
    """Return whether the point may still act: it acts so many times in all processes together."""
    for number in range(times):
        try:
            os.close(os.open(tokens / str(number), os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            continue
        return True
    return False


def _die(delay: float = 0.0) -> None:
    time.sleep(delay)
    os.kill(os.getpid(), signal.SIGKILL)


if wanted := os.environ.get("CRASH_POINT"):
    arm(json.loads(wanted))
