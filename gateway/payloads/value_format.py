"""A lone value: the payload is one number, boolean or string, without anything around it.

    21.5        true        open        "open"

It is the record `{"value": x}`. The text decides the type: a number or boolean is written as in JSON (RFC 8259), all
else is a string. White space around it does not count. In quotes it is a string as JSON writes it. For a field of type
string every text is a string: 1.10 stays 1.10.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic_core import from_json
from typing_extensions import override

from gateway.model import Code, Reason
from gateway.payloads.contract import Context, Format, Misfit, Records, shown

PLACE = ("value",)
_BLANK = b" \t\r\n"
_NOT_STRING = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?|true|false|NaN|-?Infinity")
"""NaN and Infinity are taken for numbers, as from JSON, so that the reason against them says what they are."""


class ValueFormat(Format):
    @override
    def records(self, payload: bytes, context: Context) -> Records | Reason:
        bare = payload.strip(_BLANK)
        if not bare:
            return Reason(Code.EMPTY, "payload", "a number, a boolean or a string", shown(payload))
        if b"\0" in bare:
            hint = "leave out the NUL that ends a string in C"
            return Reason(Code.BAD_TEXT, "payload", "a string without NUL", shown(payload), hint)
        try:
            text = bare.decode()
            is_json = text[0] == '"' or (context.members[0].kind != "string" and _NOT_STRING.fullmatch(text))
            value = from_json(text) if is_json else text
        except ValueError as error:  # not UTF-8, quotes that do not match, or a number of more than 4,300 digits
            return Reason(
                Code.BAD_TEXT, "payload", "a number, a boolean or a string, in UTF-8", shown(payload), str(error)
            )
        return Records([{"value": value}])

    @override
    def write(self, record: Mapping[str, Any]) -> str:
        value = record["value"]
        return value if isinstance(value, str) else json.dumps(value)

    @override
    def misfit(self, context: Context) -> Misfit | None:
        for number, member in enumerate(context.members):
            got = repr("/" + "/".join(map(str, member.place)))
            if member.kind in ("tag", "time"):
                return Misfit(member.setting, f"no {member.kind} from a payload that is one value", got)
            if member.place != PLACE:
                return Misfit(member.setting, "a field named value or `from: /value`: the payload is one value", got)
            if number:
                return Misfit(member.setting, "only one field: the payload is one value", got)
        return None


FORMAT = ValueFormat()
