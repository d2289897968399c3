"""The full path of a message: every reason against it, or the same readings as the fast path. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gateway.ingest.outcome import Evaluation
from gateway.ingest.topic_routes import Route, Rule
from gateway.line_protocol import reading_key
from gateway.model import Code, Publish, Reading, Reason, Rejection, cut_of
from gateway.rules.finishing import Values
from gateway.rules.reader import Read
from gateway.rules.validator import MAX_REASONS


def read(rule: Rule, message: Publish, stamp_ns: int) -> Read | Reason:
    """Return the values of each record, or the reasons against it; one Reason against the whole."""
    return rejected_whole(rule, message, stamp_ns) or rule.reader.read(message.payload, stamp_ns, rule.most_records)


def rejected_whole(rule: Rule, message: Publish, now_ns: int) -> Reason | None:
    """Return why a message is rejected unread: programme over, too large, or without any time."""
    if now_ns >= rule.ends_ns:
        return Reason(
            Code.ENDED,
            "topic",
            f"a startup whose programme has not ended; that of {rule.startup.slug} ended on {rule.startup.until}",
            "a message after that day",
            "ask the operators of the test bed",
        )
    cut = cut_of(message)
    if cut or len(message.payload) > rule.limit:
        return Reason(
            Code.TOO_LARGE,
            "payload",
            f"at most {rule.limit:,} bytes",
            f"{len(message.payload) + cut:,} bytes" + (", in a packet that is too large to be read" if cut else ""),
            "quota.payload: send fewer readings at once",
        )
    if message.retain and rule.reader.rule.time is None:
        return Reason(
            Code.BAD_TIME,
            "topic",
            "a message that is not retained, since its rule takes the arrival time",
            "a retained copy of an older message",
            "publish without the retain flag, or send a time",
        )
    return None


def sort(
    route: Route,
    rule: Rule,
    message: Publish,
    stamp_ns: int,
    records: Read,
    only: Sequence[int],
) -> Evaluation:
    """Return the valid records as readings, the others as one rejection with all reasons."""
    readings: list[Reading] = []
    lines: list[str] = []
    rejected: list[int] = []
    reasons: list[Reason] = list(route.reasons)
    meter = route.meter
    wanted = frozenset(only)
    for i, record in enumerate(records):
        if only and i not in wanted:
            continue
        if isinstance(record, list):
            reasons += record
        elif not route.reasons:
            reading = _reading(route, rule, record, stamp_ns + i)
            key = route.key
            parts: tuple[Sequence[str], ...] = ()
            if record.tags:
                parts = (key, *record.tags.items())
                key = meter.keys.get(parts) or reading_key(reading)
            reason = meter.admit(route.device, key)
            if reason is None:
                if parts:
                    meter.keys[parts] = key
                readings.append(reading)
                lines.append(f"{key} {rule.write(reading.fields)} {reading.time_ns}")
                continue
            reasons.append(reason)
        rejected.append(i)
    if not rejected:
        return Evaluation(readings, lines)
    of_many = tuple(rejected) if len(records) > 1 else ()
    return Evaluation(readings, lines, _rejection(route, message, stamp_ns, tuple(reasons), of_many))


def _reading(route: Route, rule: Rule, values: Values, stamp_ns: int) -> Reading:
    time_ns = stamp_ns if values.time_ns is None else values.time_ns
    tags = {**route.tags, **values.tags} if values.tags else route.tags
    return Reading(route.startup, route.device, rule.measurement, tags, values.fields, time_ns)


def rejected(route: Route, message: Publish, stamp_ns: int, reasons: tuple[Reason, ...]) -> Evaluation:
    return Evaluation(rejection=_rejection(route, message, stamp_ns, reasons))


def _rejection(
    route: Route, message: Publish, stamp_ns: int, reasons: tuple[Reason, ...], records: tuple[int, ...] = ()
) -> Rejection:
    if len(reasons) > MAX_REASONS:
        last = replace(reasons[MAX_REASONS - 1], hint=f"and more: the first {MAX_REASONS} reasons are listed")
        reasons = (*reasons[: MAX_REASONS - 1], last)
    cut = cut_of(message)
    return Rejection(route.startup, route.device, message.topic, message.payload, stamp_ns, reasons, records, cut)
