"""JSON (RFC 8259): one object is one record, an array of objects is as many."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter
from pydantic_core import from_json
from typing_extensions import override

from gateway.model import Code, Reason
from gateway.payloads.contract import Context, Decoder, Format, Record, Records, shown

_BLANK = b" \t\n\r"


class JsonFormat(Format):
    """Valid payloads are decoded and validated in one pass by pydantic's own parser."""

    @override
    def records(self, payload: bytes, context: Context) -> Records | Reason:
        try:
            value = from_json(payload, allow_inf_nan=True, cache_strings="keys")
        except ValueError as error:
            hint = str(error) if payload.strip() else ""  # "EOF while parsing" helps nobody
            return Reason(Code.NOT_JSON, "payload", "a JSON object or array of objects", shown(payload), hint)
        if not isinstance(value, list):
            return Records([value])
        if not value:
            return Reason(Code.EMPTY, "payload", "at least one object in the array", "an empty array")
        return Records(value, "/{}")

    @override
    def write(self, record: Mapping[str, Any]) -> str:
        return json.dumps(record)

    @override
    def decoder(self, one: TypeAdapter[Record], many: TypeAdapter[list[Record]], context: Context) -> Decoder:
        # without the adapters' own calls around them
        validate_one, validate_many = one.validator.validate_json, many.validator.validate_json

        def decode_every(payload: bytes) -> list[Record]:
            if payload.lstrip(_BLANK)[:1] == b"[":
                decoded: list[Record] = validate_many(payload)
                return decoded
            return [validate_one(payload)]

        return Decoder(b"{", validate_one, decode_every)


FORMAT = JsonFormat()
