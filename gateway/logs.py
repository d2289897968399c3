"""Structured logs on standard error: coloured lines for people, JSON for machines. Nothing per message.

What the libraries log comes out the same way. Each event is one line, whatever is in it: control characters are
escaped, a traceback is folded, and a value that is too long is cut. A flood is bounded: of one kind of event `BURST`
lines are written in `WINDOW` seconds, then one with the number of those that were left out.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import structlog

from gateway.visible import visible

BURST = 30
WINDOW = 10.0
MAX_KINDS = 500
"""Kinds of events that are counted apart; those beyond share one count."""
MAX_VALUE = 4000
"""Characters of one value."""
MAX_DEPTH = 4
MAX_FRAMES = 12

Event = MutableMapping[str, Any]
_KIND = "_kind"


def configure(level: str, format_: str = "auto", **bound: object) -> None:
    """Set up structlog, and Python's own logging to go through it, once, at the start of a command.

    `level` is `debug`, `info`, `warning` or `error`; `format_` is `console`, `json` or `auto`, which means `console` on
    a terminal. Each line carries `bound`.
    """
    structlog.contextvars.bind_contextvars(**bound)
    for_people = format_ == "console" or (format_ == "auto" and sys.stderr.isatty())
    renderer: Any = _for_people() if for_people else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            Bounded(_report_left_out),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _fold_exception,
            _escape,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=logging.WARNING, handlers=[_Libraries()], force=True)


def get_logger(name: str) -> Any:
    """Return a logger whose lines carry the module that they come from."""
    return structlog.get_logger(module=name)


class _Libraries(logging.Handler):
    """Passes on what libraries log."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            event = record.getMessage()
        except Exception:  # the arguments do not fit: a mistake of the library
            event = str(record.msg)
        more = {"exc_info": record.exc_info} if record.exc_info and record.exc_info[1] else {}
        with suppress(OSError, ValueError):  # standard error is closed
            kind = (record.pathname, record.lineno)
            get_logger(record.name).log(_level(record.levelno), event, _kind=kind, **more)


def _level(number: int) -> int:
    """Return the level of structlog for one of a library, which may have levels of its own."""
    return max(logging.DEBUG, min(logging.CRITICAL, number // 10 * 10))


def _for_people() -> Callable[[Any, str, Event], str]:
    render = structlog.dev.ConsoleRenderer()

    def on_one_line(logger: object, method: str, event: Event) -> str:
        if "exception" in event:
            event["raised"] = event.pop("exception")  # which would begin a line of its own
        return str(render(logger, method, event))

    return on_one_line


class Bounded:
    """Drops events of a kind that comes too often, and reports how many. A kind is a place in the code.

    `report` gets the last event that was dropped, with the count, when its window is over.
    """

    def __init__(self, report: Callable[[Mapping[str, Any], int], None]) -> None:
        self._report = report
        self._lock = threading.Lock()
        self._windows: dict[object, _Window] = {}

    def __call__(self, _logger: object, _method: str, event: Event) -> Event:
        kind = event.pop(_KIND, None) or (event.get("module"), event.get("event"))
        if "left_out" in event:
            return event
        now = time.monotonic()
        with self._lock:
            window = self._window(kind, now)
            window.seen += 1
            if window.seen <= BURST:
                return event
            window.last = dict(event)
            if window.seen == BURST + 1:
                timer = threading.Timer(window.ends - now, self._close, (kind, window))
                timer.daemon = True
                timer.start()
        raise structlog.DropEvent

    def _window(self, kind: object, now: float) -> _Window:
        found = self._windows.get(kind)
        if found is not None and (found.seen > BURST or found.ends > now):
            return found  # one that drops is closed by its timer
        if found is None and len(self._windows) >= MAX_KINDS:
            self._windows = {key: one for key, one in self._windows.items() if one.ends > now or one.seen > BURST}
            if len(self._windows) >= MAX_KINDS:
                return self._windows.setdefault(None, _Window(now + WINDOW))
        new = self._windows[kind] = _Window(now + WINDOW)
        return new

    def _close(self, kind: object, window: _Window) -> None:
        with self._lock:
            if self._windows.get(kind) is window:
                del self._windows[kind]
            elif self._windows.get(None) is window:
                del self._windows[None]
            left_out, last = window.seen - BURST, window.last
        with suppress(OSError, ValueError):
            self._report(last, left_out)


class _Window:
    __slots__ = ("ends", "last", "seen")

    def __init__(self, ends: float) -> None:
        self.ends = ends
        self.seen = 0
        self.last: Mapping[str, Any] = {}


def _report_left_out(last: Mapping[str, Any], count: int) -> None:
    more = {key: value for key, value in last.items() if key not in ("event", "level")}
    level = logging.getLevelNamesMapping()[str(last["level"]).upper()]
    structlog.get_logger().log(level, last["event"], left_out=count, **more)


def _fold_exception(_logger: object, _method: str, event: Event) -> Event:
    """Replace an exception by one line: what it is, and where it was raised."""
    info = event.pop("exc_info", None)
    if info is True:
        info = sys.exc_info()
    error = info[1] if isinstance(info, tuple) else info
    if isinstance(error, BaseException):
        event["exception"] = folded(error)
    return event


def folded(error: BaseException, depth: int = 0) -> str:
    """Format an exception, with what caused it, as one line: the innermost call stands first."""
    text = f"{type(error).__name__}: {str(error)[:MAX_VALUE]}{place(error.__traceback__)}"
    if depth >= MAX_DEPTH:
        return text
    if isinstance(error, BaseExceptionGroup):
        return " + ".join([text, *(folded(one, depth + 1) for one in error.exceptions[:MAX_DEPTH])])
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return f"{text} < {folded(cause, depth + 1)}" if cause is not None else text


def place(trace: TracebackType | None) -> str:
    """Return where an exception was raised, and from where that was called."""
    frames = traceback.extract_tb(trace)[-MAX_FRAMES:]
    calls = (f"{'/'.join(Path(one.filename).parts[-2:])}:{one.lineno} {one.name}" for one in reversed(frames))
    return f" ({', '.join(calls)})" if frames else ""


def _escape(_logger: object, _method: str, event: Event) -> Event:
    return {str(visible(key)): _escaped(value, 0) for key, value in event.items()}


def _escaped(value: object, depth: int) -> object:
    """Return a value that is printed on one line, within bounds."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth < MAX_DEPTH and isinstance(value, Mapping):
        return {visible(key): _escaped(one, depth + 1) for key, one in list(value.items())[:MAX_VALUE]}
    if depth < MAX_DEPTH and isinstance(value, list | tuple | set | frozenset):
        return [_escaped(one, depth + 1) for one in list(value)[:MAX_VALUE]]
    text = str(value)
    return visible(text if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]}… ({len(text):,} characters)")
