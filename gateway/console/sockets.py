"""Events that a browser may send over its socket. None of them is written to the log, whatever it holds.

NiceGUI passes on what arrives to any page whose id it names, logs on request, and lets an exception escape from each
event that it does not understand.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any

from gateway.logs import get_logger

MAX_MESSAGE = 64 * 1024
"""Bytes of one message: the page sends clicks and choices."""

log = get_logger(__name__)


def guard(server: Any) -> None:
    """Let the server take only well-formed events, each to a page of the socket that it comes from."""
    server.eio.transports = ["websocket"]
    server.eio.max_http_buffer_size = MAX_MESSAGE
    for name in ("engineio.server", "socketio.server"):  # they log what a browser sends, with a traceback
        logging.getLogger(name).disabled = True
    server._handle_event_internal = _swallowing(_original(server._handle_event_internal))
    handlers = server.handlers["/"]
    for event in ("event", "javascript_response", "ack"):
        handlers[event] = _to_own_page(server, _original(handlers[event]))
    for event in ("connect", "handshake"):
        handlers[event] = _rejecting(_original(handlers[event]))
    handlers["log"] = _ignore


def _swallowing(handle_event: Callable[..., Any]) -> Callable[..., Any]:
    """Let no exception escape: it would be one of a task that nobody looks at, which asyncio logs with a traceback."""

    async def handle(*arguments: Any) -> None:
        try:
            await handle_event(*arguments)
        except Exception as error:
            log.warning("a message from a browser was not understood", problem=type(error).__name__)

    return _guarding(handle, handle_event)


def _to_own_page(server: Any, handler: Callable[..., Any]) -> Callable[..., Any]:
    def handle(sid: str, *arguments: Any) -> None:
        message = arguments[0] if arguments else None
        if isinstance(message, dict) and message.get("client_id") in server.rooms(sid):
            handler(sid, message)

    return _guarding(handle, handler)


def _rejecting(handler: Callable[..., Any]) -> Callable[..., Any]:
    async def handle(sid: str, *arguments: Any) -> Any:
        try:
            result = handler(sid, *arguments)
            return await result if inspect.isawaitable(result) else result
        except (AttributeError, LookupError, TypeError, ValueError):
            return False

    return _guarding(handle, handler)


def _ignore(_sid: str, *_arguments: Any) -> None:
    """Do nothing: a browser has nothing to say to the log."""


def _guarding(handle: Callable[..., Any], handler: Callable[..., Any]) -> Callable[..., Any]:
    handle.guarded = handler  # type: ignore[attr-defined]
    return handle


def _original(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Return NiceGUI's own handler: it has one server a process, and the pages may be mounted again."""
    return getattr(handler, "guarded", handler)
