"""Charges that are given back: the budget of backlogs pays for messages of a backlog."""

from __future__ import annotations

from gateway.ingest.backlog import OLD_NS, in_order
from gateway.ingest.outcome import Evaluation
from gateway.ingest.topic_routes import Route
from gateway.model import Publish


def charge_old(route: Route, time_ns: int, size: int, now_ns: int) -> None:
    """Charge the budget of backlogs, instead of the quota, for a message whose reading is old, if it is in order."""
    is_in_order, route.last_ns = time_ns >= route.last_ns, time_ns
    if is_in_order:
        _charge(route, 1, size, now_ns)


def charge_records(route: Route, message: Publish, evaluation: Evaluation, now_ns: int) -> None:
    """Charge the further records of a message, and the budget of backlogs for those that are a backlog's."""
    records, readings = evaluation.records, evaluation.readings
    route.meter.left -= max(0, records - 1)
    if readings and readings[0].time_ns < now_ns - OLD_NS:
        found, route.last_ns = in_order(readings, route.last_ns, now_ns)
        if found:
            _charge(route, found, (route.topic_bytes + len(message.payload)) * found / records, now_ns)


def _charge(route: Route, messages: int, size: float, now_ns: int) -> None:
    meter = route.meter
    if meter.backlog.pays(messages, size, now_ns):
        meter.left += messages
        meter.bytes_left += size
        if route.device_limit is not None:
            route.device_limit.give_back()
