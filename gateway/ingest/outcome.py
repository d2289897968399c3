"""Results of messages, and of the batches and rounds that they came in: readings, lines and rejections. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from gateway.model import Counts, Reading, Rejection
from gateway.state.field_types import FieldType, Undecided


class Evaluation(NamedTuple):
    """Result of one message. `lines` are the readings in line protocol, in the same order. `waiting` is the message
    itself, with its `waiting_records`, where it has to wait for its result."""

    readings: Sequence[Reading] = ()
    lines: Sequence[str] = ()
    rejection: Rejection | None = None
    waiting: Undecided | None = None
    waiting_records: int = 0

    @property
    def records(self) -> int:
        """Number of records, as the ledger counts them."""
        return len(self.readings) + (self.rejection.count if self.rejection else 0) + self.waiting_records


@dataclass(slots=True)
class Outcome:
    """What a batch became, by startup."""

    readings: dict[str, list[Reading]] = field(default_factory=dict)
    lines: dict[str, list[str]] = field(default_factory=dict)
    rejections: list[Rejection] = field(default_factory=list)
    unread: Counter[str] = field(default_factory=Counter)
    """Messages rejected unread, over quota or of a blocked device, by startup; `rejections` has samples of them."""

    series: dict[str, list[str]] = field(default_factory=dict)
    """Series that were new, by startup."""
    types: list[FieldType] = field(default_factory=list)
    """Types of fields that were new."""
    waiting: list[Undecided] = field(default_factory=list)
    """Messages that have no result yet."""
    decided: list[Undecided] = field(default_factory=list)
    """Messages that had none, and have one now, which is part of this outcome."""

    def add(self, evaluation: Evaluation) -> None:
        if evaluation.readings:
            startup = evaluation.readings[0].startup
            self.readings.setdefault(startup, []).extend(evaluation.readings)
            self.lines.setdefault(startup, []).extend(evaluation.lines)
        if evaluation.rejection is not None:
            self.rejections.append(evaluation.rejection)
        if evaluation.waiting is not None:
            self.waiting.append(evaluation.waiting)

    def forget_empty(self) -> None:
        """Remove the startups without an accepted reading."""
        for startup in [startup for startup, lines in self.lines.items() if not lines]:
            del self.lines[startup], self.readings[startup]

    def rejected(self) -> dict[str, Counts]:
        """Return the counts of the rejections for the ledger; the journal counts the readings."""
        found = self.unread.copy()
        for rejection in self.rejections:
            if not rejection.stands_for:
                found[rejection.startup] += rejection.count
        return {startup: Counts(received=count, rejected=count) for startup, count in found.items()}
