"""Answers of influxd 1.6.7 in the words of InfluxDB 2: status, code, message, or no answer at all."""

from __future__ import annotations

import aiohttp
from aiohttp import web
from aiohttp.typedefs import Handler

CODES = {
    400: "invalid",
    401: "unauthorized",
    404: "not found",
    413: "request too large",
    422: "unprocessable entity",
    429: "too many requests",
    500: "internal error",
    503: "unavailable",
}


class Refused(Exception):
    """An error as InfluxDB 2 answers it: HTTP status, message, further headers."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers or {}


class Unanswered(Exception):
    """The connection closes without an answer, as that of a server that dies."""


def as_v2(status: int, error: str) -> Refused:
    """Return what InfluxDB 2 answers where influxd 1.6.7 answered a write with `status` and `error`.

    influxd says 400 to all of these, seen by running it:
    "unable to parse 'bad': missing fields"                                  no good line in the body
    "partial write: unable to parse 'bad': missing fields dropped=0"         good lines written
    "partial write: field type conflict: input field … dropped=1"            good lines written
    "partial write: points beyond retention policy dropped=1"                good lines written
    """
    if status == 400 and "unable to parse" in error:
        return Refused(400, error.removeprefix("partial write: ").removesuffix(" dropped=0"))
    if status == 400 and error.startswith("partial write"):
        return Refused(422, f"failure writing points to database: {error}")
    if status in (404, 413):
        return Refused(status, error)
    return Refused(500, f"unexpected error writing points to database: {error}")


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer `Refused` as InfluxDB 2's JSON; close without an answer when the engine cannot be reached."""
    try:
        return await handler(request)
    except Refused as refused:
        return _error(refused)
    except web.HTTPNotFound:
        return _error(Refused(404, "path not found"))
    except (Unanswered, aiohttp.ClientError):
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=500)  # reaches nobody: the connection is gone


def _error(refused: Refused) -> web.Response:
    code = CODES.get(refused.status, "internal error")
    headers = {"X-Platform-Error-Code": code, **refused.headers}
    return web.json_response({"code": code, "message": refused.message}, status=refused.status, headers=headers)
