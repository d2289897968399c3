"""A payload -> the values of its records, and every reason against them. A rule's format and validator, together."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.config import TopicRule
from gateway.model import Code, Reason
from gateway.payloads import Records
from gateway.rules.finishing import Values
from gateway.rules.validator import MAX_REASONS, Validator

MOST_RECORDS = 5000
"""Records of one message, at most, whatever the quota."""

Read = Sequence[Values | list[Reason]]


class Reader:
    """Reads the payloads of one topic rule.

    `begins` and `decode_one` are the format's fast decoder of a payload of one record (see `Decoder`). Unless the rule
    `is_plain`, `finish` follows.
    """

    def __init__(self, rule: TopicRule) -> None:
        self.rule = rule
        self._validator = Validator(rule)
        self._format, self._context = rule.format, rule.context
        self.begins, self.decode_one, self._decode_every = self._format.decoder(
            self._validator.one, self._validator.many, self._context
        )
        self.finish = self._validator.finish
        self.is_plain = self._validator.is_plain

    def read(self, payload: bytes, now_ns: int, most: int = MOST_RECORDS) -> Read | Reason:
        """Return the values of each record, or the reasons against it; one Reason if there are no records at all, or
        more than `most`: looking at each takes time that other startups wait for."""
        return self.read_good(payload, now_ns, most) or self.explain(payload, now_ns, most)

    def read_good(self, payload: bytes, now_ns: int, most: int = MOST_RECORDS) -> list[Values] | None:
        """Return the values of each record; None if any of them is invalid."""
        try:
            decoded = self._decode_every(payload)
        except ValueError:
            return None
        if len(decoded) > most:
            return None
        finished = [self.finish(record, now_ns) for record in decoded]
        return None if None in finished else finished  # type: ignore[return-value]  # no None is left

    def records(self, payload: bytes) -> Records | Reason:
        """Return the records of a payload as plain values, whatever the rule says of them."""
        return self._format.records(payload, self._context)

    def explain(self, payload: bytes, now_ns: int, most: int = MOST_RECORDS) -> Read | Reason:
        """Return the same from plain values: slower, but with every reason."""
        records = self.records(payload)
        if isinstance(records, Reason):
            return records
        if len(records.values) > most:
            return Reason(
                Code.OVER_QUOTA,
                "payload",
                f"at most {most:,} records in one message",
                f"{len(records.values):,} records",
                "send them in several messages",
            )
        return self._explain_each(records, now_ns)

    def _explain_each(self, records: Records, now_ns: int) -> Read:
        """Explain each invalid record until there are enough reasons; give further ones an empty list."""
        found: list[Values | list[Reason]] = []
        reasons = 0
        for i, record in enumerate(records.values):
            one: Values | list[Reason] | None = self._validator.validate(record, now_ns)
            if one is None:
                one = self._validator.explain(record, now_ns, records.at.format(i)) if reasons <= MAX_REASONS else []
                reasons += len(one) if isinstance(one, list) else 0
            found.append(one)
        return found
