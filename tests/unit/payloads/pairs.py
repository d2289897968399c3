"""A payload format that lives in the tests: `t=20.5 fw=1.2`, a record a line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.model import Code, Reason
from gateway.payloads import Context, Format, Records


class Pairs(Format):
    def records(self, payload: bytes, context: Context) -> Records | Reason:
        wants = {member.place[0]: member.kind for member in context.members}
        lines = payload.decode(errors="replace").splitlines()
        if not lines:
            return Reason(Code.EMPTY, "payload", "pairs", "an empty payload")
        return Records([_record(line, wants) for line in lines], "/{}" if len(lines) > 1 else "")

    def write(self, record: Mapping[str, Any]) -> str:
        return " ".join(f"{name}={value}" for name, value in record.items())


def _record(line: str, wants: Mapping[str | int, str]) -> dict[str, Any]:
    pairs = (pair.partition("=") for pair in line.split())
    return {name: _number(value) if wants.get(name) in ("float", "time") else value for name, _, value in pairs}


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
