"""Structured logs on standard error: coloured lines for people, JSON for machines. Nothing per message."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog


def configure(level: str, format_: str = "auto", **bound: object) -> None:
    """Set up structlog once, at the start of a command.

    `level` is `debug`, `info`, `warning` or `error`; `format_` is `console`, `json` or `auto`, which means `console` on
    a terminal. Each line carries `bound`.
    """
    structlog.contextvars.bind_contextvars(**bound)
    for_people = format_ == "console" or (format_ == "auto" and sys.stderr.isatty())
    renderer: Any = structlog.dev.ConsoleRenderer() if for_people else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, force=True)


def get_logger(name: str) -> Any:
    """Return a logger whose lines carry the module that they come from."""
    return structlog.get_logger(module=name)
