"""Reports every outcome to every listener, and keeps a listener's failure away from everything else.

A listener that raises has lost that batch; the others are notified all the same, and messages flow on. Every failure is
counted (`gateway_listener_failures_total`); of several in a row only the first is logged. A listener's own task that
ends is restarted, with growing pauses.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from gateway.backoff import pauses
from gateway.logs import get_logger
from gateway.metrics import Metrics
from gateway.model import BackgroundListener, Listener, Readings, Rejection

log = get_logger(__name__)


class FanOut:
    """Several listeners as one. They are notified of a batch one after the other, in their order."""

    def __init__(self, listeners: Sequence[Listener], metrics: Metrics) -> None:
        self._listeners = tuple(listeners)
        self._metrics = metrics
        self._failing: set[tuple[str, str]] = set()

    def accepted(self, readings: Readings, /) -> None:
        """Report a batch's readings to all listeners."""
        for listener in self._listeners:
            with self._guarded(listener, "accepted"):
                listener.accepted(readings)

    def rejected(self, rejections: Sequence[Rejection], /) -> None:
        """Report rejections to all listeners."""
        for listener in self._listeners:
            with self._guarded(listener, "rejected"):
                listener.rejected(rejections)

    async def run(self) -> None:
        """Run the listeners' own tasks until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for listener in self._listeners:
                if isinstance(listener, BackgroundListener):
                    tasks.create_task(self._keep_running(listener), name=f"listener-{type(listener).__name__}")

    async def _keep_running(self, listener: BackgroundListener) -> None:
        waits = pauses()
        while True:
            with self._guarded(listener, "run"):
                await listener.run()
            await asyncio.sleep(next(waits))

    @contextmanager
    def _guarded(self, listener: Listener, method: str) -> Iterator[None]:
        name = type(listener).__name__
        try:
            yield
        except (Exception, asyncio.CancelledError) as error:  # of any kind: it is this listener's, and no other's
            if isinstance(error, asyncio.CancelledError) and method == "run" and _is_being_cancelled():
                raise
            self._metrics.listener_failures.labels(name).inc()
            if (name, method) not in self._failing:
                self._failing.add((name, method))
                *_, (frame, line) = traceback.walk_tb(error.__traceback__)
                log.error(  # noqa: TRY400  # to print a whole traceback would block: it reads source files
                    "a listener failed",
                    listener=name,
                    method=method,
                    problem=_shown(error),
                    at=f"{frame.f_code.co_filename}:{line}",
                    next="all listeners continue with the next batch",
                )
        else:
            self._failing.discard((name, method))


def _is_being_cancelled() -> bool:
    """Return whether this task is being cancelled; if not, a listener raised the error of a cancelled task."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _shown(error: BaseException) -> str:
    try:
        return repr(error)
    except Exception:  # of any kind: it is the listener's own code
        return type(error).__name__
