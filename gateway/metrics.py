"""Prometheus metrics. The ledger's counts are read from the ledger at each request; the rest is counted per batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client import Counter as PrometheusCounter
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector

from gateway.model import UNROUTED, Counts, Readings, Rejection

_COUNTED = {
    "received": "Records that arrived",
    "accepted": "Records that became readings",
    "rejected": "Records that were rejected when they arrived",
    "stored": "Readings that are in the store",
    "refused": "Readings that the store refused",
}

_BROKER = {
    "dropped_messages": "Messages that the broker has dropped, of all sessions together",
    "heap_bytes": "Memory that the broker has allocated",
    "heap_maximum_bytes": "The most memory that the broker has had allocated",
    "stored_messages": "Messages that the broker holds",
    "stored_bytes": "Payloads that the broker holds",
    "connected_clients": "Clients connected to the broker",
    "absent_clients": "Sessions at the broker whose clients are away",
    "retained_messages": "Retained messages at the broker",
}


class Metrics:
    """The metrics of one process. Its registry is its own, so that two gateways in one process do not mix."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self.batch_messages = Histogram(
            "gateway_batch_messages",
            "Messages in one batch",
            registry=self._registry,
            buckets=(1, 10, 100, 1000, 5000, 20_000),
        )
        self.commit_seconds = Histogram(
            "gateway_commit_seconds", "Time from a batch's arrival until it is on disk", registry=self._registry
        )
        self.feed_dropped = PrometheusCounter(
            "gateway_feed_dropped_messages",
            "Feed and feedback messages that the session could not take",
            registry=self._registry,
        )
        self.listener_failures = PrometheusCounter(
            "gateway_listener_failures",
            "Batches that a listener (live feeds, MQTT feed, counts) lost through an error of its own",
            ["listener"],
            registry=self._registry,
        )
        self._reasons: Counter[tuple[str, str]] = Counter()
        self.broker: dict[str, float] = {}
        """Figures that the broker reports of itself, by the names of `_BROKER`; those that it leaves out are absent."""

    def accepted(self, _readings: Readings, /) -> None:
        """Count nothing: readings are counted in the ledger."""

    def rejected(self, rejections: Sequence[Rejection], /) -> None:
        """Count every reason of a batch's rejections."""
        for rejection in rejections:
            for reason in rejection.reasons:
                self._reasons[rejection.startup, reason.code.value] += 1

    def keep_only(self, startups: Collection[str]) -> None:
        """Forget the counts of startups that are no longer configured."""
        kept = {UNROUTED, *startups}
        self._reasons = Counter({key: count for key, count in self._reasons.items() if key[0] in kept})

    def families(self) -> list[Metric]:
        """Return all metrics of this process. Reads /proc."""
        reasons = CounterMetricFamily("gateway_rejection_reasons", "Reasons of rejections", labels=["startup", "code"])
        for labels, count in list(self._reasons.items()):  # this may be a thread, and the loop adds to them
            reasons.add_metric(labels, count)
        return [*self._registry.collect(), reasons, *_broker_metrics(self.broker)]


def exposition(
    families: Iterable[Metric],
    ledger: Mapping[str, Counts],
    gauges: Mapping[str, float],
    by_startup: Mapping[str, Mapping[str, float]],
) -> Iterator[bytes]:
    """Yield the text that Prometheus reads, a metric at a time. `gauges` are named values of the whole gateway,
    `by_startup` of each startup."""
    for family in chain(families, _ledger_metrics(ledger), _gauges(gauges, by_startup)):
        snapshot = CollectorRegistry()
        snapshot.register(_Snapshot(family))
        yield generate_latest(snapshot)


def _gauges(gauges: Mapping[str, float], by_startup: Mapping[str, Mapping[str, float]]) -> Iterator[Metric]:
    for name, value in gauges.items():
        yield GaugeMetricFamily(f"gateway_{name}", name.replace("_", " "), value=value)
    for name, values in by_startup.items():
        family = GaugeMetricFamily(f"gateway_{name}", name.replace("_", " "), labels=["startup"])
        for startup, value in values.items():
            family.add_metric([startup], value)
        yield family


def by_worker(families: Mapping[int, Iterable[Metric]]) -> list[Metric]:
    """Return the families of several workers as one page: each sample has its worker as a label."""
    merged: dict[str, Metric] = {}
    for worker, several in families.items():
        for family in several:
            one = merged.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            for sample in family.samples:
                one.add_sample(sample.name, {**sample.labels, "worker": str(worker)}, sample.value)
    return list(merged.values())


class _Snapshot:
    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> list[Metric]:
        return [self._family]


def _broker_metrics(figures: Mapping[str, float]) -> Iterable[Metric]:
    for name, what in _BROKER.items():
        if (value := figures.get(name)) is not None:
            kind = CounterMetricFamily if name == "dropped_messages" else GaugeMetricFamily
            yield kind(f"gateway_broker_{name}", what, value=value)


def _ledger_metrics(ledger: Mapping[str, Counts]) -> Iterable[Metric]:
    for name, what in _COUNTED.items():
        family = CounterMetricFamily(f"gateway_{name}_records", what, labels=["startup"])
        for startup, counts in ledger.items():
            family.add_metric([startup], getattr(counts, name))
        yield family
    journaled = GaugeMetricFamily("gateway_journaled_records", "Readings that wait in the journal", labels=["startup"])
    for startup, counts in ledger.items():
        journaled.add_metric([startup], counts.journaled)
    yield journaled
