"""A batch of messages -> readings, lines and rejections, in one synchronous pass. No I/O.

The route of a topic (its rule, device and tags) is found once and remembered; the payload is decoded and
validated in one pass; whatever is wrong is explained in full.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import NamedTuple

from pydantic import ValidationError

from gateway.config import Config, Startup
from gateway.ledger import Counts
from gateway.line_protocol import line, reading_key
from gateway.model import UNROUTED, Batch, Code, Publish, Reading, Reason, Rejection
from gateway.payloads import json
from gateway.quota import QuotaMeter
from gateway.schema import MAX_TAG
from gateway.timestamps import NS
from gateway.topics import DEVICE_RULE, ROOT, Router, Template, device_is_legal
from gateway.validate import Validator, Values, tag_text

ROUTES_KEPT = 65_536
MAX_REASONS = 100


class Rule(NamedTuple):
    """A topic rule, compiled, with whom it belongs to."""

    startup: Startup
    measurement: str
    validator: Validator
    meter: QuotaMeter
    ends_ns: int | None


class Route(NamedTuple):
    """What a topic stands for. `reasons` is what is wrong with the topic itself; `rule` None: no rule matches."""

    rule: Rule | None
    startup: str
    device: str
    tags: Mapping[str, str]
    reasons: tuple[Reason, ...] = ()


class Refined(NamedTuple):
    """What one message became. `lines` are the readings in line protocol, in the same order."""

    readings: Sequence[Reading] = ()
    lines: Sequence[bytes] = ()
    rejection: Rejection | None = None

    @property
    def records(self) -> int:
        """What the ledger counts."""
        return len(self.readings) + (self.rejection.count if self.rejection else 0)


@dataclass(slots=True)
class Outcome:
    """What a batch became, by startup."""

    readings: dict[str, list[Reading]] = field(default_factory=dict)
    lines: dict[str, list[bytes]] = field(default_factory=dict)
    rejections: list[Rejection] = field(default_factory=list)

    def add(self, refined: Refined) -> None:
        if refined.readings:
            startup = refined.readings[0].startup
            self.readings.setdefault(startup, []).extend(refined.readings)
            self.lines.setdefault(startup, []).extend(refined.lines)
        if refined.rejection is not None:
            self.rejections.append(refined.rejection)

    def counts(self) -> dict[str, Counts]:
        """What the ledger has to add."""
        rejected: Counter[str] = Counter()
        for rejection in self.rejections:
            rejected[rejection.startup] += rejection.count
        accepted = {startup: len(lines) for startup, lines in self.lines.items()}
        return {
            startup: Counts(
                received=accepted.get(startup, 0) + rejected[startup],
                accepted=accepted.get(startup, 0),
                rejected=rejected[startup],
            )
            for startup in accepted.keys() | rejected.keys()
        }


class Pipeline:
    """The rules of all startups, ready to use."""

    def __init__(self, config: Config, meters: Mapping[str, QuotaMeter]) -> None:
        self._config = config
        rules: dict[Template, Rule] = {
            rule.template: Rule(startup, name, Validator(rule), meters[startup.slug], startup.ends_ns)
            for startup in config.startups
            for name, rule in startup.topics.items()
        }
        self._router = Router(rules)
        self._next_ns = 0
        self.route: Callable[[str], Route] = lru_cache(ROUTES_KEPT)(self._route)

    def process(self, batch: Batch) -> Outcome:
        """Turn every message of the batch into readings or a rejection.

        Readings without a time of their own get the arrival time of the batch, each one ns after the one before:
        InfluxDB would keep only one of two points of a series with the same time.
        """
        outcome = Outcome()
        stamp_ns = batch.arrived_ns
        if self._next_ns - NS < stamp_ns < self._next_ns:  # else the clock was set back: follow it
            stamp_ns = self._next_ns
        for message in batch.messages:
            refined = self.refine(message, stamp_ns)
            stamp_ns += refined.records
            outcome.add(refined)
        self._next_ns = stamp_ns
        return outcome

    def refine(self, message: Publish, stamp_ns: int, only: Sequence[int] = (), *, metered: bool = True) -> Refined:
        """One message's readings, and what of it is rejected. `only` picks records of an array.

        A dry run and a replay are not `metered`: they use up no quota of messages.
        """
        route = self.route(message.topic)
        rule = route.rule
        if rule is None:
            return _refused(route, message, stamp_ns, route.reasons)
        reason = _refused_whole(rule, message, stamp_ns, metered)
        records = reason or _records(rule.validator, message.payload, stamp_ns)
        if isinstance(records, Reason):
            return _refused(route, message, stamp_ns, (*route.reasons, records))
        refined = _sort(route, rule, message, stamp_ns, records, only)
        if metered and refined.rejection is not None:
            rule.meter.charge(refined.rejection.count - 1)
        return refined

    def _route(self, topic: str) -> Route:
        match = self._router.match(topic)
        if match is None:
            return self._no_route(topic)
        rule, captured = match
        device = captured.pop("device")
        reasons = []
        if not device_is_legal(device):
            reasons.append(Reason(Code.BAD_DEVICE, "topic", f"a device name of {DEVICE_RULE}", repr(device)))
        reasons += [
            Reason(
                Code.BAD_TAG,
                "topic",
                f"a level {{{name}}} of 1 to {MAX_TAG} characters, no control character, no \\ before a "
                "space or at its end",
                repr(text),
            )
            for name, text in captured.items()
            if not tag_text(text)
        ]
        return Route(rule, rule.startup.slug, device, captured, tuple(reasons))

    def _no_route(self, topic: str) -> Route:
        levels = topic.split("/")
        owner = self._config.by_slug.get(levels[1]) if levels[0] == ROOT and len(levels) > 1 else None
        if owner is None:
            known = ", ".join(f"{ROOT}/{slug}/…" for slug in list(self._config.by_slug)[:10])
            reason = Reason(Code.NO_RULE, "topic", f"a topic of a startup of this test bed ({known})", repr(topic))
            return Route(None, UNROUTED, "", {}, (reason,))
        templates = [rule.template for rule in owner.topics.values()]
        known = ", ".join(template.text for template in templates)
        hint = "a device name must not hold a /" if len(levels) > max(len(t.levels) for t in templates) else ""
        reason = Reason(
            Code.NO_RULE, "topic", f"a topic that a rule of {owner.slug} matches ({known})", repr(topic), hint
        )
        return Route(None, owner.slug, levels[2] if len(levels) > 2 else "", {}, (reason,))


def _records(validator: Validator, payload: bytes, now_ns: int) -> Sequence[Values | list[Reason]] | Reason:
    """What each record says, or the reasons against it; one Reason where there are no records at all."""
    try:
        valid = json.validated(payload, validator.one, validator.many)
        finished = [validator.finish(record, now_ns) for record in valid]
    except ValidationError:
        finished = [None]
    if None not in finished:
        return finished  # type: ignore[return-value]  # no None is left
    records = json.records(payload)
    if isinstance(records, Reason):
        return records
    at = "/{}" if payload.lstrip()[:1] == b"[" else ""
    return _explained(validator, records, now_ns, at)


def _explained(validator: Validator, records: Sequence[object], now_ns: int, at: str) -> list[Values | list[Reason]]:
    """What each record says, or the reasons against it; once enough is told, just that there are some."""
    found: list[Values | list[Reason]] = []
    told = 0
    for i, record in enumerate(records):
        one: Values | list[Reason] | None = validator.quick(record, now_ns)
        if one is None:
            one = validator.explain(record, now_ns, at.format(i)) if told <= MAX_REASONS else []
            told += len(one)
        found.append(one)
    return found


def _refused_whole(rule: Rule, message: Publish, now_ns: int, metered: bool) -> Reason | None:
    """What is refused before the payload is looked at: programme over, too large, without any time, over quota."""
    if rule.ends_ns is not None and now_ns >= rule.ends_ns:
        return Reason(
            Code.ENDED,
            "topic",
            f"a startup whose programme goes on; that of {rule.startup.slug} ended on {rule.startup.until}",
            "a message after that day",
            "ask the operators of the test bed",
        )
    limit = rule.startup.quota.payload
    if len(message.payload) > limit:
        return Reason(Code.TOO_LARGE, "payload", f"at most {limit:,} bytes", f"{len(message.payload):,} bytes")
    if message.retain and rule.validator.rule.time is None:
        return Reason(
            Code.BAD_TIME,
            "topic",
            "a message that is not retained, since its rule takes the arrival time",
            "a retained copy of an older message",
            "publish without the retain flag, or send a time",
        )
    return rule.meter.message(now_ns) if metered else None


def _sort(
    route: Route,
    rule: Rule,
    message: Publish,
    stamp_ns: int,
    records: Sequence[Values | list[Reason]],
    only: Sequence[int],
) -> Refined:
    """The good records as readings, the others as one rejection with all reasons."""
    readings: list[Reading] = []
    lines: list[bytes] = []
    refused: list[int] = []
    reasons: list[Reason] = list(route.reasons)
    for i, record in enumerate(records):
        if only and i not in only:
            continue
        if isinstance(record, list):
            reasons += record
        elif not route.reasons:
            reading = _reading(route, rule, record, stamp_ns + i)
            key = reading_key(reading)
            reason = rule.meter.admit(route.device, key)
            if reason is None:
                readings.append(reading)
                lines.append(line(key, reading).encode())
                continue
            reasons.append(reason)
        refused.append(i)
    if not refused:
        return Refined(readings, lines)
    of_many = tuple(refused) if len(records) > 1 else ()
    return Refined(readings, lines, _rejection(route, message, stamp_ns, tuple(reasons), of_many))


def _reading(route: Route, rule: Rule, values: Values, stamp_ns: int) -> Reading:
    time_ns = stamp_ns if values.time_ns is None else values.time_ns
    tags = {**route.tags, **values.tags} if values.tags else route.tags
    return Reading(route.startup, route.device, rule.measurement, tags, values.fields, time_ns)


def _refused(route: Route, message: Publish, stamp_ns: int, reasons: tuple[Reason, ...]) -> Refined:
    return Refined(rejection=_rejection(route, message, stamp_ns, reasons))


def _rejection(
    route: Route, message: Publish, stamp_ns: int, reasons: tuple[Reason, ...], records: tuple[int, ...] = ()
) -> Rejection:
    if len(reasons) > MAX_REASONS:  # whoever sends garbage must not fill the disk with its description
        last = replace(reasons[MAX_REASONS - 1], hint=f"and more: the first {MAX_REASONS} reasons are told")
        reasons = (*reasons[: MAX_REASONS - 1], last)
    return Rejection(route.startup, route.device, message.topic, message.payload, stamp_ns, reasons, records)


def unused(startups: Iterable[Startup]) -> dict[str, QuotaMeter]:
    """Meters for a dry run: nothing is used yet."""
    return {startup.slug: QuotaMeter(startup.quota) for startup in startups}
