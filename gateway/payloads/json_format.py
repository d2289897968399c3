"""JSON (RFC 8259): one object is one record, an array of objects is as many.

`validated` is the way that good payloads take: decoded and validated in one pass by pydantic's own parser.
`records` is the way of the others: plain values, so that every reason can be told.
"""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter
from pydantic_core import from_json

from gateway.model import Code, Reason

Record = dict[str, Any]

_BLANK = b" \t\n\r"
_SHOWN_BYTES = 24


def validated(payload: bytes, one: TypeAdapter[Record], many: TypeAdapter[list[Record]]) -> list[Record]:
    """Decode and validate in one pass.

    Raises:
        pydantic.ValidationError: something in it is wrong; `records` and the validator tell what.
    """
    if payload.lstrip(_BLANK)[:1] == b"[":
        return many.validate_json(payload)
    return [one.validate_json(payload)]


def records(payload: bytes) -> list[object] | Reason:
    """The records as plain values, or why there are none."""
    try:
        value = from_json(payload, allow_inf_nan=True, cache_strings="keys")
    except ValueError as error:
        return Reason(Code.NOT_JSON, "payload", "a JSON object or array of objects", _shown(payload), str(error))
    if not isinstance(value, list):
        return [value]
    if not value:
        return Reason(Code.EMPTY, "payload", "at least one object in the array", "an empty array")
    return value


def _shown(payload: bytes) -> str:
    if not payload:
        return "an empty payload"
    more = "…" if len(payload) > _SHOWN_BYTES else ""
    return f"{len(payload)} bytes, {payload[:_SHOWN_BYTES].decode(errors='backslashreplace')!r}{more}"
