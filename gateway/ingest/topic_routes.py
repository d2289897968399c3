"""Meaning of a topic: its rule, device and tags, found once and remembered."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from gateway.config import Config, Quota, Startup
from gateway.ingest.quota import BLOCKED, DeviceLimit, QuotaMeter
from gateway.ingest.remembered import Remembered, texts_size
from gateway.line_protocol import FieldWriter, series_key
from gateway.model import UNROUTED, Code, Reason
from gateway.payloads import Record
from gateway.rules.field_types import FieldTypes, MeasurementTypes, conflicting, widened
from gateway.rules.finishing import Values, tag_text
from gateway.rules.reader import MOST_RECORDS, Reader
from gateway.rules.schema import MAX_TAG, PYTHON_TYPES
from gateway.topics import DEVICE_RULE, ROOT, Router, Template, device_is_legal, slug_in

REMEMBERED = 1000
"""Characters of a topic whose route is remembered; MQTT allows 65,535 bytes."""
ROUTE = 600
"""Bytes of a remembered route without its texts."""
ROUTES_A_SERIES = 2048
"""Bytes of remembered routes that a startup may have for each series of its quota: each valid topic is one at least."""
SHOWN = 200
NEVER_NS = 1 << 63
UNROUTED_QUOTA = Quota.model_validate({"messages": "20/s", "burst": 100})
"""Quota of all messages that belong to no startup."""


@dataclass(slots=True, eq=False)
class Rule:
    """A topic rule, compiled, and the startup that it belongs to.

    The fast path needs `begins`, `decode_one`, `is_plain` and `finish` for every message; they are the reader's.
    `limit` is in bytes of a payload. `ends_ns` is when the programme of its startup is over. `types` are those of its
    measurement; `conflicts` are the fields to which it gives another: no record that has one is accepted. With
    `keeps`, members that it does not name become fields.
    """

    startup: Startup
    measurement: str
    reader: Reader
    begins: bytes
    decode_one: Callable[[bytes], Record]
    is_plain: bool
    finish: Callable[[Record, int], Values | None]
    write: FieldWriter
    limit: int
    most_records: int
    ends_ns: int
    types: MeasurementTypes
    conflicts: tuple[str, ...]
    keeps: bool

    @property
    def template(self) -> Template:
        return self.startup.topics[self.measurement].template

    @classmethod
    def of(cls, startup: Startup, measurement: str, types: MeasurementTypes) -> Rule:
        rule = startup.topics[measurement]
        reader = Reader(rule, types)
        conflicts = conflicting(rule, types)
        as_floats = widened(rule, types)

        def lock(names: Iterable[str]) -> None:
            for name in names:
                if name in rule.fields:
                    types.lock(name, rule.fields[name].type)

        return cls(
            startup=startup,
            measurement=measurement,
            reader=reader,
            begins=reader.begins,
            decode_one=_never if conflicts else reader.decode_one,
            is_plain=reader.is_plain,
            finish=reader.finish,
            write=FieldWriter(
                {name: float if name in as_floats else PYTHON_TYPES[field.type] for name, field in rule.fields.items()},
                always=rule.unknown != "keep" and all(field.required for field in rule.fields.values()),
                first=lock,
            ),
            limit=startup.quota.payload,
            most_records=min(startup.quota.burst, MOST_RECORDS),
            ends_ns=NEVER_NS if startup.ends_ns is None else startup.ends_ns,
            types=types,
            conflicts=conflicts,
            keeps=rule.unknown == "keep",
        )


def _never(_payload: bytes) -> Record:
    """Leave every record to the full path."""
    raise ValueError


@dataclass(slots=True, eq=False)
class Route:
    """Meaning of a topic.

    `reasons` is what is wrong with the topic itself; `rule` None: no rule matches. `meter` is charged for its messages.
    `device_limit` is the device's own, if it has one.
    `key` is the series key of readings whose payload adds no tags, and empty where there are reasons. `last_ns` is the
    time of the last reading that was old when it came.
    """

    rule: Rule | None
    startup: str
    device: str
    tags: Mapping[str, str]
    meter: QuotaMeter
    topic_bytes: int
    device_limit: DeviceLimit | None = None
    key: str = ""
    reasons: tuple[Reason, ...] = ()
    last_ns: int = 0


class Routes:
    """Routes of all startups. Call `find`; the fast path looks into `known` first.

    Startups that are the same objects as those of the `previous` routes keep their compiled rules, unless the types of
    their fields have changed.
    """

    def __init__(
        self,
        config: Config,
        meters: Mapping[str, QuotaMeter],
        types: FieldTypes,
        previous: Routes | None = None,
    ) -> None:
        self._config = config
        self._meters = meters
        self._unrouted = QuotaMeter(UNROUTED_QUOTA)
        self._versions = {startup.slug: types.versions[startup.slug] for startup in config.startups}
        self._rules = {startup.slug: self._compiled(startup, types, previous) for startup in config.startups}
        self._router = Router({rule.template: rule for rules in self._rules.values() for rule in rules})
        self._remembered: Remembered[Route] = Remembered(lambda slug: meters[slug].quota.series * ROUTES_A_SERIES)
        self.known = self._remembered.by_key

    def find(self, topic: str) -> Route:
        """Return the route of a topic."""
        return self.known.get(topic) or self.learn(topic)

    def learn(self, topic: str) -> Route:
        """Find the route of a topic that is not in `known`.

        Add it to `known` if a rule matches the topic and the topic is not very long.
        """
        route = self._find(topic)
        if route.rule is not None and len(topic) <= REMEMBERED:
            size = ROUTE + texts_size(topic, route.key, route.device, *route.tags.values())
            self._remembered.add(route.startup, topic, route, size)
        return route

    def rules_of(self, startup: Startup) -> list[Rule]:
        """Return the rules compiled for this very startup, unchanged; none if it has changed."""
        return [rule for rule in self._rules.get(startup.slug, ()) if rule.startup is startup]

    def _compiled(self, startup: Startup, types: FieldTypes, previous: Routes | None) -> list[Rule]:
        slug = startup.slug
        if previous and previous._versions.get(slug) == self._versions[slug] and (known := previous.rules_of(startup)):
            return known
        return [Rule.of(startup, measurement, types.of(slug, measurement)) for measurement in startup.topics]

    def _find(self, topic: str) -> Route:
        match = self._router.match(topic)
        if match is None:
            return self._no_route(topic)
        rule, captured = match
        device = captured.pop("device")
        limit = self._device_limit(rule.startup, device)
        blocked = [limit.over(1)] if limit is BLOCKED else []
        reasons = (*blocked, *_device_reasons(device), *_tag_reasons(captured))
        key = "" if reasons else series_key(rule.measurement, (("device", device), *captured.items()))
        slug = rule.startup.slug
        return Route(rule, slug, device, captured, self._meters[slug], _bytes(topic), limit, key, reasons)

    def _no_route(self, topic: str) -> Route:
        levels = topic.split("/")
        owner = self._config.by_slug.get(slug_in(topic))
        if owner is None:
            known = ", ".join(f"{ROOT}/{slug}/…" for slug in list(self._config.by_slug)[:10])
            reason = Reason(Code.NO_RULE, "topic", f"a topic of a startup of this test bed ({known})", _quoted(topic))
            return Route(None, UNROUTED, "", {}, self._unrouted, _bytes(topic), reasons=(reason,))
        templates = [rule.template for rule in owner.topics.values()]
        known = ", ".join(template.text for template in templates)
        hint = "a device name must not contain a /" if len(levels) > max(len(t.levels) for t in templates) else ""
        reason = Reason(
            Code.NO_RULE, "topic", f"a topic that a rule of {owner.slug} matches ({known})", _quoted(topic), hint
        )
        device = levels[2] if len(levels) > 2 else ""
        meter, limit = self._meters[owner.slug], self._device_limit(owner, device)
        return Route(None, owner.slug, device, {}, meter, _bytes(topic), limit, reasons=(reason,))

    def _device_limit(self, startup: Startup, device: str) -> DeviceLimit | None:
        return BLOCKED if device in startup.blocked else self._meters[startup.slug].of_device(device)


def _bytes(topic: str) -> int:
    return len(topic.encode(errors="replace"))


def _quoted(text: str) -> str:
    """Return a name or topic as a reason shows it: its beginning, if it is long."""
    return repr(text) if len(text) <= SHOWN else f"{text[:SHOWN]!r}… ({len(text):,} characters)"


def _device_reasons(device: str) -> list[Reason]:
    if device_is_legal(device):
        return []
    return [Reason(Code.BAD_DEVICE, "topic", f"a device name of {DEVICE_RULE}", _quoted(device))]


def _tag_reasons(captured: Mapping[str, str]) -> list[Reason]:
    return [
        Reason(
            Code.BAD_TAG,
            "topic",
            f"a level {{{name}}} of 1 to {MAX_TAG} characters, no control character, no \\ before a "
            "space or at its end",
            _quoted(text),
        )
        for name, text in captured.items()
        if not tag_text(text)
    ]
