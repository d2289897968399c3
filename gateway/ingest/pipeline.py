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
from gateway.ingest.backlog import OLD_NS
from gateway.ingest.charging import charge_old, charge_records
from gateway.ingest.full_path import read, rejected, sort
from gateway.ingest.outcome import Evaluation, Outcome
from gateway.ingest.quota import QuotaMeter
from gateway.ingest.samples import Explain, Samples
from gateway.ingest.settling import Unsettled, WaitingRoom, checked, settle
from gateway.ingest.topic_routes import Route, Routes, Rule
from gateway.model import Batch, FieldValue, Message, Publish, Reading, Reason, cut_of
from gateway.rules.field_types import FieldTypes
from gateway.state.field_types import Undecided
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

    def __init__(
        self,
        config: Config,
        meters: Mapping[str, QuotaMeter],
        previous: Pipeline | None = None,
        types: FieldTypes | None = None,
    ) -> None:
        self.config = config
        self.meters = meters
        self.types: FieldTypes = types or (previous.types if previous else FieldTypes())
        self.samples: Samples = previous.samples if previous else Samples()
        self.waiting: WaitingRoom = previous.waiting if previous else WaitingRoom(self.types)
        self._routes: Routes = Routes(config, meters, self.types, previous._routes if previous else None)
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
                    evaluation = self.evaluate(message, stamp_ns, unsettled=Unsettled.WAIT)
                    stamp_ns += evaluation.records
                    meter.bytes_left -= cut_of(message)
                    charge_records(route, message, evaluation, arrived_ns)
                    outcome.add(evaluation)
            done += 1
        if startup:
            self._next_ns[startup] = stamp_ns
        _write(groups.values())
        return done

    def evaluate(
        self,
        message: Publish,
        stamp_ns: int,
        only: Sequence[int] = (),
        unsettled: Unsettled = Unsettled.SETTLE,
    ) -> Evaluation:
        """Return the readings of one message, and its rejection. `only` picks records of an array.

        It uses up no quota of messages: a dry run and a replay do not. `unsettled` is for fields without a type.
        """
        route = self.route(message.topic)
        rule = route.rule
        if rule is None:
            return rejected(route, message, stamp_ns, route.reasons)
        records = read(rule, message, stamp_ns)
        undecided: frozenset[str] = frozenset()
        if rule.keeps and not route.reasons and not isinstance(records, Reason):
            undecided, is_settled = settle(rule, route.device, records, unsettled)
            if undecided and unsettled is Unsettled.WAIT:
                if waiting := self.waiting.add(route, message, stamp_ns, undecided):
                    return Evaluation(waiting=waiting, waiting_records=len(records))
                return self.evaluate(message, stamp_ns, only, Unsettled.DECIDE)
            if is_settled:
                records = read(rule, message, stamp_ns)
        if isinstance(records, Reason):
            return rejected(route, message, stamp_ns, (*route.reasons, records))
        return sort(route, rule, message, stamp_ns, checked(rule, records, undecided), only)

    def decide(self, now_ns: int, outcome: Outcome) -> None:
        """Add what the messages become that have waited for the types of their fields, and need no longer wait."""
        for one in self.waiting.due(now_ns):
            outcome.add(self.evaluate(Message(one.topic, one.payload), one.stamp_ns, unsettled=Unsettled.DECIDE))
            outcome.decided.append(one)

    def resume(self, waiting: Iterable[Undecided]) -> None:
        """Let messages wait again that an earlier run left on disk."""
        for one in waiting:
            route = self.route(one.topic)
            rule, names = route.rule, frozenset[str]()
            if rule is not None and rule.keeps and not route.reasons:
                records = read(rule, Message(one.topic, one.payload), one.stamp_ns)
                if not isinstance(records, Reason):
                    names, _ = settle(rule, route.device, records, Unsettled.WAIT)
            self.waiting.restore(replace(one, names=names))

    def take_new(self, now_ns: int, outcome: Outcome) -> None:
        """Move into the outcome the series and types that its readings were the first to have."""
        for startup in outcome.lines:
            meter = self.meters.get(startup)  # none where a reload has removed the startup meanwhile
            if meter is not None and (new := meter.take_new_series()):
                outcome.series[startup] = new
        outcome.types += self.types.take_new(now_ns)

    def put_back(self, outcome: Outcome) -> None:
        """Take series and types back from an outcome that could not be written down."""
        for startup, new in outcome.series.items():
            if meter := self.meters.get(startup):
                meter.put_back_series(new)
        self.types.put_back(outcome.types)

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
    if (
        rule is None
        or message.retain
        or len(payload) > rule.limit
        or stamp_ns >= rule.ends_ns
        or (
            payload[:1] != rule.begins and rule.begins  # decoding it would be in vain
        )
    ):
        return False
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
            if time_ns < stamp_ns - OLD_NS and key in route.meter.series:
                charge_old(route, time_ns, route.topic_bytes + len(payload), stamp_ns)
    if key not in route.meter.series:
        return False
    group.readings.append(_NEW(Reading, (route.startup, route.device, rule.measurement, tags, fields, time_ns)))
    lines, waiting = group.lines, group.waiting.get(rule) or group.waiting.setdefault(rule, [])
    waiting.append((len(lines), key, fields, time_ns))
    lines.append("")
    return True


def unused(startups: Iterable[Startup]) -> dict[str, QuotaMeter]:
    """Return meters for a dry run: nothing is used yet."""
    return {startup.slug: QuotaMeter(startup.quota) for startup in startups}
