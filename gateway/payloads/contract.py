"""Contract of a payload format: bytes and a context become records, or one reason why there are none.

A record is a mapping of plain values, as JSON has them: numbers, strings, booleans, None, lists and mappings. Anything
else in the place of a record is returned as it is, and rejected by the rule's validator.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from gateway.model import Reason

Record = dict[str, Any]

_SHOWN_BYTES = 24


class Member(NamedTuple):
    """One member that a rule picks from each record.

    `setting` leads to the place in the rule that says so, `place` to the member in the record. `kind` is the type of a
    field, or `tag`, or `time`.
    """

    setting: tuple[str, ...]
    place: tuple[str | int, ...]
    kind: str


@dataclass(frozen=True, slots=True)
class Context:
    """Whatever a format may use besides the bytes: the members that the rule picks."""

    members: tuple[Member, ...]


class Misfit(NamedTuple):
    """A setting of a rule that its payload format cannot serve."""

    setting: tuple[str, ...]
    expected: str
    got: str


class Records(NamedTuple):
    """Records of a payload. `at` is the position of each, a template for its number: `/{}` in an array."""

    values: Sequence[object]
    at: str = ""


class Decoder(NamedTuple):
    """Fast decoder of one rule: decodes and validates a valid payload in one step.

    `one` takes a payload of a single record whose first byte is `begins`, or any if that is empty; `every` takes any
    payload. Both raise ValueError where anything is wrong, and need not say what.
    """

    begins: bytes
    one: Callable[[bytes], Record]
    every: Callable[[bytes], list[Record]]


class Format(ABC):
    """A payload format. It keeps no state: one object serves all rules."""

    @abstractmethod
    def records(self, payload: bytes, context: Context) -> Records | Reason:
        """Return the records of a payload as plain values, or why there are none. Never raise, whatever the bytes."""

    @abstractmethod
    def write(self, record: Mapping[str, Any]) -> str:
        """Return a payload that `records` reads as this record: an example, to be shown to people."""

    def misfit(self, context: Context) -> Misfit | None:  # noqa: ARG002  # none, by default
        """Return the first setting of a rule that this format cannot serve. `gateway check` reports it."""
        return None

    def decoder(self, one: TypeAdapter[Record], many: TypeAdapter[list[Record]], context: Context) -> Decoder:
        """Return the fast decoder for a compiled schema. A format whose parser also validates overrides this."""
        validate_one, validate_every = one.validator.validate_python, many.validator.validate_python

        def decode_every(payload: bytes) -> list[Record]:
            found = self.records(payload, context)
            if isinstance(found, Reason):
                raise ValueError  # noqa: TRY004  # of the payload, not of an argument
            decoded: list[Record] = validate_every(found.values)
            return decoded

        def decode_one(payload: bytes) -> Record:
            found = self.records(payload, context)
            if isinstance(found, Reason) or len(found.values) != 1:
                raise ValueError
            decoded: Record = validate_one(found.values[0])
            return decoded

        return Decoder(b"", decode_one, decode_every)


def shown(payload: bytes) -> str:
    """Return the first bytes of a payload as a reason shows them."""
    if not payload:
        return "an empty payload"
    more = "…" if len(payload) > _SHOWN_BYTES else ""
    return f"{len(payload)} bytes, {payload[:_SHOWN_BYTES].decode(errors='backslashreplace')!r}{more}"
