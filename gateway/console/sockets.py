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
    handlers = server.handlers["/"]
    for event in ("event", "javascript_response", "ack"):
        handlers[event] = _to_own_page(server, _original(handlers[event]))
    for event in ("connect", "handshake"):
        handlers[event] = _refusing(_original(handlers[event]))
    handlers["log"] = _ignore


def _to_own_page(server: Any, handler: Callable[..., Any]) -> Callable[..., Any]:
    def handle(sid: str, *arguments: Any) -> None:
        message = arguments[0] if arguments else None
        if not isinstance(message, dict) or message.get("client_id") not in server.rooms(sid):
            return
        try:
            handler(sid, message)
        except Exception as error:
            log.warning("a message of a browser was not understood", problem=type(error).__name__)

    return _guarding(handle, handler)


def _refusing(handler: Callable[..., Any]) -> Callable[..., Any]:
    async def handle(sid: str, *arguments: Any) -> Any:
        try:
            result = handler(sid, *arguments)
            return await result if inspect.isawaitable(result) else result
        except (AttributeError, LookupError, TypeError, ValueError):
            return False

    return _guarding(handle, handler)


def _ignore(_sid: str, *_arguments: Any) -> None:
    """A browser has nothing to say to the log."""


def _guarding(handle: Callable[..., Any], handler: Callable[..., Any]) -> Callable[..., Any]:
    handle.guarded = handler  # type: ignore[attr-defined]
    return handle


def _original(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Return NiceGUI's own handler: it has one server a process, and the pages may be mounted again."""
    return getattr(handler, "guarded", handler)
