"""A round: batches of several sources that are committed together."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.ingest.outcome import Outcome
from gateway.model import Batch
from gateway.mqtt.session import READ_BYTES, Source

MUCH = 100
"""Messages of a batch, ..."""
MUCH_BYTES = READ_BYTES // 4
"""... or bytes of its topics and payloads, with which a read is worth its cost: such a source need not rest."""


@dataclass(slots=True)
class Round:
    """Batches that are committed together, with their sources, and what they became."""

    outcome: Outcome = field(default_factory=Outcome)
    batches: list[tuple[Source, Batch]] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write down or to acknowledge."""
        outcome = self.outcome
        return not (self.batches or outcome.rejections or outcome.lines or outcome.types)

    @property
    def messages(self) -> int:
        return sum(len(batch.messages) for _, batch in self.batches)

    @property
    def sources(self) -> list[Source]:
        """The sources, each once: a turn may take several batches of one."""
        return list({id(source): source for source, _ in self.batches}.values())

    @property
    def busy(self) -> set[int]:
        """The ids of the sources whose reads bring much."""
        return {id(source) for source, batch in self.batches if _is_much(batch)}


def _is_much(batch: Batch) -> bool:
    messages = batch.messages
    return len(messages) >= MUCH or sum(len(one.payload) + len(one.topic) for one in messages) >= MUCH_BYTES
