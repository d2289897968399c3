"""Messages whose fields have no type yet: with `unknown: keep` the first values decide. Pure.

Such a message waits, on disk, until its types are certain (`gateway.rules.field_types`); then it is evaluated as of the
moment when it arrived. Nothing counts it before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum, auto
from itertools import islice

from gateway.ingest.topic_routes import Route, Rule
from gateway.model import Publish, Reason
from gateway.rules.field_types import KINDS, FieldTypes
from gateway.rules.finishing import Values, shown
from gateway.rules.reader import Read
from gateway.state.field_types import Undecided

MOST = 200
MOST_BYTES = 1 << 20
"""Messages of a startup that may wait, and their bytes; further ones are decided by what is known."""
AT_ONCE = 5
STARTUPS_AT_ONCE = 10
BYTES_AT_ONCE = 64 << 10
"""Messages of a startup, startups and bytes that are decided at once: all others wait for the time that this takes."""


NONE = frozenset[str]()


class Unsettled(Enum):
    """Choice for a field without a type: `WAIT` until it is certain, `DECIDE` by what is known, or `SETTLE` it with
    this very value, as whoever replays the message wants."""

    WAIT = auto()
    DECIDE = auto()
    SETTLE = auto()


class WaitingRoom:
    """Messages that wait, by startup. `add` them, report them as `written`, and take those that are `due`."""

    def __init__(self, types: FieldTypes) -> None:
        self._types = types
        self._waiting: dict[str, dict[int, Undecided]] = {}
        self._sizes: Counter[str] = Counter()
        self._written: dict[str, list[Undecided]] = {}

    @property
    def is_empty(self) -> bool:
        return not self._waiting

    def add(self, route: Route, message: Publish, stamp_ns: int, names: frozenset[str]) -> Undecided | None:
        """Keep a message; None where there is no room for it."""
        rule, startup = route.rule, route.startup
        waiting = self._waiting.get(startup, {})
        size = self._sizes[startup] + route.topic_bytes + len(message.payload)
        if rule is None or len(waiting) >= MOST or size > MOST_BYTES or stamp_ns in waiting:
            return None
        one = Undecided(startup, rule.measurement, message.topic, message.payload, stamp_ns, names)
        self._keep(one)
        return one

    def written(self, several: Iterable[Undecided]) -> None:
        """Note that messages are on disk: only then they may be decided, so that their removal comes after."""
        for one in several:
            self._written.setdefault(one.startup, []).append(one)

    def restore(self, one: Undecided) -> None:
        """Keep a message that an earlier run left on disk."""
        self._keep(one)
        self.written((one,))

    def due(self, now_ns: int) -> list[Undecided]:
        """Take messages whose types are certain, or that have waited for long enough: a few of each startup, of a few
        startups in turn, and not many bytes."""
        found: list[Undecided] = []
        size = 0
        for startup in list(islice(self._written, STARTUPS_AT_ONCE)):
            left = []
            taken = 0
            for one in self._written.pop(startup):
                if taken < AT_ONCE and size < BYTES_AT_ONCE and self._is_due(one, now_ns):
                    found.append(one)
                    taken += 1
                    size += one.size
                else:
                    left.append(one)
            self._forget(startup, found[len(found) - taken :])
            if left:
                self._written[startup] = left  # at the end: the others first
        return found

    def _forget(self, startup: str, several: Iterable[Undecided]) -> None:
        for one in several:
            del self._waiting[startup][one.stamp_ns]
            self._sizes[startup] -= one.size
        if not self._waiting[startup]:
            del self._waiting[startup], self._sizes[startup]

    def _keep(self, one: Undecided) -> None:
        self._waiting.setdefault(one.startup, {})[one.stamp_ns] = one
        self._sizes[one.startup] += one.size

    def _is_due(self, one: Undecided, now_ns: int) -> bool:
        types = self._types.of(one.startup, one.measurement)
        names = types.undecided(one.names)
        return not names or abs(now_ns - one.stamp_ns) >= types.wait_ns(names)


def settle(rule: Rule, device: str, records: Read, unsettled: Unsettled) -> tuple[frozenset[str], bool]:
    """Return which fields have no type for certain, and whether others have got theirs by these records."""
    types, declared = rule.types, rule.reader.rule.fields
    locked = types.locked
    before = len(locked)
    names: set[str] = set()
    for record in records:
        if isinstance(record, list) or record.fields.keys() <= locked.keys():
            continue
        new = {name: value for name, value in record.fields.items() if name not in locked and name not in declared}
        if not new:
            continue
        names.update(new)
        if unsettled is Unsettled.SETTLE:
            for name, value in new.items():
                types.lock(name, KINDS[type(value)], device)
        elif unsettled is Unsettled.WAIT:
            types.vote(device, new)
    if unsettled is Unsettled.DECIDE:
        types.decide(names)
    return types.undecided(names) if names else NONE, len(locked) > before


def checked(rule: Rule, records: Read, undecided: frozenset[str]) -> Read:
    """Return the records, those with a value that no store may see replaced by the reasons against them."""
    if not undecided and not rule.conflicts:
        return records
    return [
        record if isinstance(record, list) else list(_reasons(rule, record, _at(i, records), undecided)) or record
        for i, record in enumerate(records)
    ]


def _reasons(rule: Rule, record: Values, at: str, undecided: frozenset[str]) -> Iterator[Reason]:
    for name, value in record.fields.items():
        if name in rule.conflicts:
            topic_rule = rule.reader.rule
            where = f"{at}{topic_rule.pointer(name)}"
            yield rule.types.conflict(name, where, topic_rule.fields[name].type, shown(value))
        elif name in undecided:
            yield rule.types.uncertain(name, f"{at}/{name}", shown(value))


def _at(position: int, records: Sequence[object]) -> str:
    return f"/{position}" if len(records) > 1 else ""
