"""Sequence numbers of what a round became: read from its readings, and from the payloads that were rejected."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gateway.config import Config
from gateway.ingest.outcome import Outcome
from gateway.ingest.topic_routes import Route
from gateway.model import Reason, Rejection
from gateway.rules.finishing import pick
from gateway.state.field_types import Undecided
from gateway.state.sequences import Arrival, Key, Sequences


class Numbers:
    """Reads the numbers of the rules that have a `seq`; rules without one cost nothing."""

    def __init__(self, config: Config, route: Callable[[str], Route]) -> None:
        self._route = route
        self._fields = {
            startup.slug: fields
            for startup in config.startups
            if (fields := {name: field for name, rule in startup.topics.items() if (field := rule.sequence_field)})
        }
        """By startup and measurement, the field of the number."""

    def arrivals(self, outcome: Outcome) -> list[Arrival]:
        """Return the numbers that arrived. Readings and rejections of one device are put in the order of their numbers,
        since that of their arrival is not known; without rejections, the order is that of arrival."""
        if not self._fields:
            return []
        accepted = list(self._accepted(outcome))
        rejected = [one for rejection in outcome.rejections for one in self._rejected(rejection)]
        if outcome.decided:
            waited = {(one.key, one.number) for message in outcome.decided for one in self._undecided(message)}
            accepted = [one._replace(waited=(one.key, one.number) in waited) for one in accepted]
            rejected = [one._replace(waited=(one.key, one.number) in waited) for one in rejected]
        rejected += [one._replace(waits=True) for message in outcome.waiting for one in self._undecided(message)]
        if not rejected:
            return accepted
        mixed = {arrival.key for arrival in rejected}
        plain = [arrival for arrival in accepted if arrival.key not in mixed]
        return plain + sorted(rejected + [arrival for arrival in accepted if arrival.key in mixed])

    def observed(self, outcome: Outcome, sequences: Sequences) -> set[Key]:
        """Add the numbers of an outcome to the sequences; return those to be written down with it."""
        return sequences.observe(self.arrivals(outcome), self.unread(outcome))

    def unread(self, outcome: Outcome) -> Iterator[tuple[Key, int]]:
        """Yield how many messages of a device were rejected unread. Their numbers would look like gaps."""
        for rejection in outcome.rejections:
            if rejection.stands_for and (measurement := self._measurement(rejection)):
                yield (rejection.startup, rejection.device, measurement), rejection.stands_for

    def _accepted(self, outcome: Outcome) -> Iterator[Arrival]:
        for startup, readings in outcome.readings.items():
            fields = self._fields.get(startup)
            if fields is None:
                continue
            for reading in readings:
                number = reading.fields.get(fields.get(reading.measurement, ""))
                if isinstance(number, float) and number.is_integer():  # its field holds floats from before
                    number = int(number)
                if isinstance(number, int):
                    yield Arrival((startup, reading.device, reading.measurement), number)

    def _rejected(self, rejection: Rejection) -> Iterator[Arrival]:
        if rejection.stands_for or not self._measurement(rejection):
            return
        wanted = set(rejection.records)
        for i, one in self._in_payload(rejection.topic, rejection.payload):
            if not wanted or i in wanted:
                yield one._replace(is_rejected=True)

    def _undecided(self, message: Undecided) -> Iterator[Arrival]:
        if message.measurement in self._fields.get(message.startup, ()):
            yield from (one for _, one in self._in_payload(message.topic, message.payload))

    def _in_payload(self, topic: str, payload: bytes) -> Iterator[tuple[int, Arrival]]:
        """Yield the numbers in a payload that has no readings, each with the position of its record."""
        route = self._route(topic)
        rule = route.rule
        if rule is None or (pointer := rule.reader.rule.seq) is None:
            return
        records = rule.reader.records(payload)
        for i, record in enumerate(() if isinstance(records, Reason) else records.values):
            number = pick(record, pointer)
            if isinstance(number, int) and not isinstance(number, bool):
                yield i, Arrival((route.startup, route.device, rule.measurement), number)

    def _measurement(self, rejection: Rejection) -> str:
        """Return the measurement of a rejection whose rule has a `seq`, else nothing."""
        fields = self._fields.get(rejection.startup)
        rule = self._route(rejection.topic).rule if fields else None
        return rule.measurement if rule and fields and rule.measurement in fields else ""
