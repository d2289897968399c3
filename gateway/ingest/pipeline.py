"""A batch of messages -> readings, lines and rejections, in one synchronous pass. No I/O.

A valid message of one record takes the fast path: one call decodes and validates it, and a format string makes its
line. Everything else takes the full path, `evaluate`, which gives the same for a valid message, and every reason for
another. Before either, each message is charged to its startup, whatever becomes of it: one that is over quota costs
next to nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from gateway.config import Config, Startup
from gateway.ingest.outcome import Evaluation, Outcome
from gateway.ingest.quota import QuotaMeter
from gateway.ingest.samples import Explain, Samples
from gateway.ingest.topic_routes import Route, Routes, Rule
from gateway.line_protocol import reading_key
from gateway.model import Batch, Code, FieldValue, Publish, Reading, Reason, Rejection, cut_of
from gateway.rules.finishing import Values
from gateway.rules.reader import Read
from gateway.rules.validator import MAX_REASONS
from gateway.timestamps import NS

_NEW = tuple.__new__


class Group:
    """Readings of one startup in a batch, and their lines.

    Those of the fast path wait until the end of the batch, when the numbers of all are written at once: one by one,
    they would be a third of a message's cost. Until then an empty line holds the place of each.
    """

    __slots__ = ("lines", "readings", "waiting")

    def __init__(self, readings: list[Reading], lines: list[str]) -> None:
        self.readings = readings
        self.lines = lines
        self.waiting: dict[Rule, list[tuple[int, str, Mapping[str, FieldValue], int]]] = {}
        """By rule: the place, series key, fields and time of each line."""

    def write(self) -> None:
        """Write the lines that wait."""
        lines = self.lines
        for rule, several in self.waiting.items():
            places, keys, fields, times = zip(*several, strict=True)
            for place, key, text, time_ns in zip(places, keys, rule.write.many(fields), times, strict=True):
                lines[place] = f"{key} {text} {time_ns}"


_NO_GROUP = Group([], [])


class Pipeline:
    """Rules of all startups, ready to use. It takes over from a `previous` one in the midst of its messages."""

    def __init__(self, config: Config, meters: Mapping[str, QuotaMeter], previous: Pipeline | None = None) -> None:
        self.config = config
        self.meters = meters
        self.samples: Samples = previous.samples if previous else Samples()
        self._routes: Routes = Routes(config, meters, previous._routes if previous else None)
        self.route = self._routes.find
        self._next_ns: dict[str, int] = previous._next_ns if previous else {}

    def process(self, batch: Batch, outcome: Outcome, *, waits: QuotaMeter | None = None) -> int:
        """Add what the messages become to the outcome; return how many were processed.

        These are all, unless those over the quota of the meter `waits` can wait: then it stops before the first.

        Readings without a time of their own get the arrival time of the batch, each one ns after the one before of its
        startup: InfluxDB would keep only one of two points of a series with the same time.
        """
        groups: dict[str, Group] = {}
        known, learn = self._routes.known.get, self._routes.learn
        arrived_ns = batch.arrived_ns
        startup, group, stamp_ns, done = "", _NO_GROUP, arrived_ns, 0
        for message in batch.messages:
            route = known(message.topic) or learn(message.topic)
            if route.startup != startup:
                if startup:
                    self._next_ns[startup] = stamp_ns
                startup = route.startup
                group = groups.get(startup) or _begin(groups, outcome, route, arrived_ns)
                stamp_ns = self._stamp(startup, arrived_ns)
            meter, limit = route.meter, route.device_limit
            if limit is not None and not limit.admits(arrived_ns):
                self._reject_unread(route, message, limit.over, arrived_ns, outcome)
            elif meter.left < 1 or meter.bytes_left <= 0:
                if meter is waits:
                    break
                self._reject_unread(route, message, meter.over, arrived_ns, outcome)
            else:
                if limit is not None:
                    limit.charge()
                meter.left -= 1
                meter.bytes_left -= route.topic_bytes + len(message.payload)
                if fast_path(route, message, stamp_ns, group):
                    stamp_ns += 1
                else:
                    evaluation = self.evaluate(message, stamp_ns)
                    stamp_ns += evaluation.records
                    meter.left -= max(0, evaluation.records - 1)
                    meter.bytes_left -= cut_of(message)
                    outcome.add(evaluation)
            done += 1
        if startup:
            self._next_ns[startup] = stamp_ns
        _write(groups.values())
        return done

    def evaluate(self, message: Publish, stamp_ns: int, only: Sequence[int] = ()) -> Evaluation:
        """Return the readings of one message, and its rejection. `only` picks records of an array.

        It uses up no quota of messages: a dry run and a replay do not.
        """
        route = self.route(message.topic)
        rule = route.rule
        if rule is None:
            return _rejected(route, message, stamp_ns, route.reasons)
        records = _rejected_whole(rule, message, stamp_ns) or rule.reader.read(
            message.payload, stamp_ns, rule.most_records
        )
        if isinstance(records, Reason):
            return _rejected(route, message, stamp_ns, (*route.reasons, records))
        return _sort(route, rule, message, stamp_ns, records, only)

    def _stamp(self, startup: str, arrived_ns: int) -> int:
        """Return the time of a startup's next reading without its own. What was put back has an earlier arrival."""
        next_ns = self._next_ns.get(startup, 0)
        return next_ns if next_ns - NS < arrived_ns < next_ns else arrived_ns  # else the clock was set: follow it

    def _reject_unread(self, route: Route, message: Publish, explain: Explain, now_ns: int, outcome: Outcome) -> None:
        outcome.unread[route.startup] += 1
        if sample := self.samples.add(route, message, explain, now_ns):
            outcome.rejections.append(sample)


def _begin(groups: dict[str, Group], outcome: Outcome, route: Route, now_ns: int) -> Group:
    """Make a place for a startup's readings in this batch, and refill its quota."""
    route.meter.refill(now_ns)
    slug = route.startup
    group = groups[slug] = Group(outcome.readings.setdefault(slug, []), outcome.lines.setdefault(slug, []))
    return group


def _write(groups: Iterable[Group]) -> None:
    for group in groups:
        group.write()


def fast_path(route: Route, message: Publish, stamp_ns: int, group: Group) -> bool:
    """Add the reading of a valid message of one record and a known series to the group.

    Return False for any other message, with nothing changed.
    """
    rule, payload = route.rule, message.payload
    if rule is None or message.retain or len(payload) > rule.limit or stamp_ns >= rule.ends_ns:
        return False
    if payload[:1] != rule.begins and rule.begins:
        return False  # decoding it would be in vain
    try:
        fields = rule.decode_one(payload)
    except ValueError:
        return False
    key, tags, time_ns = route.key, route.tags, stamp_ns
    if not rule.is_plain:
        values = rule.finish(fields, stamp_ns)
        if values is None:
            return False
        fields = values.fields
        if values.tags:
            key = route.meter.keys.get((key, *values.tags.items()), "")
            tags = {**tags, **values.tags}
        if values.time_ns is not None:
            time_ns = values.time_ns
    if key not in route.meter.series:
        return False
    group.readings.append(_NEW(Reading, (route.startup, route.device, rule.measurement, tags, fields, time_ns)))
    lines, waiting = group.lines, group.waiting.get(rule) or group.waiting.setdefault(rule, [])
    waiting.append((len(lines), key, fields, time_ns))
    lines.append("")
    return True


def _rejected_whole(rule: Rule, message: Publish, now_ns: int) -> Reason | None:
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
        got = f"{len(message.payload) + cut:,} bytes" + (", in a packet that is too large to be read" if cut else "")
        return Reason(Code.TOO_LARGE, "payload", f"at most {rule.limit:,} bytes", got)
    if message.retain and rule.reader.rule.time is None:
        return Reason(
            Code.BAD_TIME,
            "topic",
            "a message that is not retained, since its rule takes the arrival time",
            "a retained copy of an older message",
            "publish without the retain flag, or send a time",
        )
    return None


def _sort(
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


def _rejected(route: Route, message: Publish, stamp_ns: int, reasons: tuple[Reason, ...]) -> Evaluation:
    return Evaluation(rejection=_rejection(route, message, stamp_ns, reasons))


def _rejection(
    route: Route, message: Publish, stamp_ns: int, reasons: tuple[Reason, ...], records: tuple[int, ...] = ()
) -> Rejection:
    if len(reasons) > MAX_REASONS:
        last = replace(reasons[MAX_REASONS - 1], hint=f"and more: the first {MAX_REASONS} reasons are listed")
        reasons = (*reasons[: MAX_REASONS - 1], last)
    cut = cut_of(message)
    return Rejection(route.startup, route.device, message.topic, message.payload, stamp_ns, reasons, records, cut)


def unused(startups: Iterable[Startup]) -> dict[str, QuotaMeter]:
    """Return meters for a dry run: nothing is used yet."""
    return {startup.slug: QuotaMeter(startup.quota) for startup in startups}
