"""Types of fields: the first one that is certain holds, as in the store. In memory, pure; the caller keeps the clock.

A field that a rule names has the rule's type, and is locked when the first reading has it. With `unknown: keep` the
values decide: their type is certain once two devices, or several values of one, agree on it. Until then the message
waits, so that one odd value of one device bars no other. A number that nothing contradicts is soon taken for certain:
it is what nearly all devices send.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from gateway import timestamps
from gateway.config import TopicRule
from gateway.model import Code, FieldValue, Reason
from gateway.rules.schema import NOUN
from gateway.state.field_types import FieldType, newest
from gateway.timestamps import NS

VALUES = 10
"""Values of one type that make it certain, if all are of one device; of two devices two do."""
NUMBER_WAITS_NS = 5 * NS
"""After this time, a number that nothing contradicts is certain."""
OTHER_WAITS_NS = 600 * NS
"""After this time, a message with a string or a boolean that nothing has confirmed is rejected."""
KINDS: dict[type, str] = {bool: "bool", int: "float", float: "float", str: "string"}
"""Type of a field that no rule names, by the type of its value: integers are kept as floats."""
CLEAR = "an operator sees the types with `gateway types list`, and clears one with `gateway types forget`"


@dataclass(slots=True)
class _Votes:
    """Values of one type: how many, and two of their devices."""

    values: int = 0
    devices: set[str] = field(default_factory=set)
    first: str = ""

    def add(self, device: str) -> None:
        self.values += 1
        self.first = self.first or device
        if len(self.devices) < 2:  # as many as it takes
            self.devices.add(device)

    @property
    def is_certain(self) -> bool:
        return len(self.devices) > 1 or self.values >= VALUES


class MeasurementTypes:
    """Types of one measurement of a startup. Types that are new are added to `new`, to be written down."""

    def __init__(self, startup: str, measurement: str, new: list[FieldType]) -> None:
        self._startup, self._measurement, self._new = startup, measurement, new
        self.locked: dict[str, FieldType] = {}
        self._votes: dict[str, dict[str, _Votes]] = {}

    def __len__(self) -> int:
        return len(self.locked) + len(self._votes)

    def __contains__(self, name: str) -> bool:
        return name in self.locked or name in self._votes

    def lock(self, name: str, kind: str, device: str = "") -> None:
        """Fix the type of a field, if it has none yet."""
        if name not in self.locked:
            self.locked[name] = made = FieldType(self._startup, self._measurement, name, kind, device, 0)
            self._new.append(made)
        self._votes.pop(name, None)

    def vote(self, device: str, fields: Mapping[str, FieldValue]) -> None:
        """Take the values of a message that have no type yet, and lock what they make certain."""
        for name, value in fields.items():
            if name in self.locked:
                continue
            kind = KINDS[type(value)]
            votes = self._votes.setdefault(name, {}).setdefault(kind, _Votes())
            votes.add(device)
            if votes.is_certain:
                self.lock(name, kind, votes.first)

    def undecided(self, fields: Iterable[str]) -> frozenset[str]:
        """Return those of the fields that have no type yet."""
        return frozenset(fields) - self.locked.keys()

    def wait_ns(self, names: Iterable[str]) -> int:
        """Return for how long a message with these undecided fields waits."""
        is_plain = all(set(self._votes.get(name, ())) <= {"float"} for name in names)
        return NUMBER_WAITS_NS if is_plain else OTHER_WAITS_NS

    def decide(self, names: Iterable[str]) -> None:
        """Lock those of the fields that are numbers for as many values as anything else."""
        for name in names:
            votes = self._votes.get(name, {})
            if votes and votes.get("float", _Votes()).values >= max(one.values for one in votes.values()):
                self.lock(name, "float", votes["float"].first)

    def conflict(self, name: str, where: str, kind: str, value: str) -> Reason:
        """Return why a value of another type than its field's is rejected."""
        lock = self.locked[name]
        of = f"device {lock.device!r} sent its first value" if lock.device else "the rule of its topic named it"
        since = f" ({timestamps.to_rfc3339(lock.since_ns)})" if lock.since_ns else ""
        return Reason(
            Code.TYPE_CONFLICT,
            where,
            f"{NOUN[lock.type]}: {self._measurement!r} keeps {name!r} with the type {lock.type} since {of}{since}",
            f"{value}, of type {kind}",
            f"the store keeps one type for a field: send that type, or use another name; {CLEAR}",
        )

    def uncertain(self, name: str, where: str, value: str) -> Reason:
        """Return why a value is rejected whose type nothing has confirmed."""
        return Reason(
            Code.UNKNOWN_FIELD,
            where,
            f"a number, or a value of a type that two devices or {VALUES} values agree on",
            f"{value} in the new field {name!r}, and nothing like it within {OTHER_WAITS_NS // NS // 60} minutes",
            "one odd value must not fix the type for all: name the field in the rule, or replay this message to fix it",
        )


class FieldTypes:
    """Types of all startups. `versions` counts the changes that readings did not make."""

    def __init__(self) -> None:
        self._new: list[FieldType] = []
        self._known: dict[tuple[str, str], MeasurementTypes] = {}
        self.versions: Counter[str] = Counter()

    def of(self, startup: str, measurement: str) -> MeasurementTypes:
        """Return the types of a measurement."""
        known, key = self._known, (startup, measurement)
        return known.get(key) or known.setdefault(key, MeasurementTypes(*key, self._new))

    def load(self, rows: Iterable[FieldType]) -> None:
        """Take over what is on disk, where it is newer."""
        for row in newest(rows).values():
            locked = self.of(row.startup, row.measurement).locked
            known = locked.get(row.field)
            if known is not None and (known.since_ns >= row.since_ns or known.since_ns == 0):
                continue
            if row.type:
                locked[row.field] = row
                self.versions[row.startup] += 1
            elif known is not None:
                del locked[row.field]
                self.versions[row.startup] += 1

    def take_new(self, now_ns: int) -> list[FieldType]:
        """Return the types that are new since the last call, to be written down."""
        taken = [replace(one, since_ns=now_ns) for one in self._new]
        self._new.clear()
        for one in taken:
            self.of(one.startup, one.measurement).locked[one.field] = one
        return taken

    def put_back(self, several: Iterable[FieldType]) -> None:
        """Return these once more with the next new ones: they could not be written down."""
        self._new.extend(several)

    def forgotten(self, startup: str, measurement: str, name: str, now_ns: int) -> list[FieldType]:
        """Return rows which say that the type of a field is forgotten, or of all fields if the name is empty; `load`
        them once they are on disk."""
        locked = self.of(startup, measurement).locked
        names = [name] if name else list(locked)
        return [replace(locked[one], type="", since_ns=now_ns) for one in names if one in locked]


def fits(declared: str, locked: str) -> bool:
    """Return whether a field of a declared type can be written as the locked one: integers can be floats."""
    return declared == locked or (declared, locked) == ("int", "float")


def conflicting(rule: TopicRule, types: MeasurementTypes) -> tuple[str, ...]:
    """Return the fields to which a rule gives another type than they have."""
    locked = types.locked
    return tuple(name for name, one in rule.fields.items() if name in locked and not fits(one.type, locked[name].type))


def widened(rule: TopicRule, types: MeasurementTypes) -> tuple[str, ...]:
    """Return the integers of a rule that are written as floats, since their fields have that type."""
    locked = types.locked
    return tuple(
        name
        for name, one in rule.fields.items()
        if one.type == "int" and name in locked and locked[name].type == "float"
    )
