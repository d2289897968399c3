"""The metrics page that Prometheus reads."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from gateway.metrics import Metrics, exposition
from gateway.model import UNROUTED, Code, Counts, Reason, Rejection
from tests.builders import NOW, rejection


def exposed(metrics: Metrics, ledger: dict[str, Counts]) -> dict[tuple[str, ...], float]:
    """Each sample by its name and the values of its labels, in the order of the labels' names."""
    text = b"".join(exposition(metrics.families(), ledger, {"connected": 1.0}, {"store_ok": {"acme": 0.0}})).decode()
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_ledger_is_exposed() -> None:
    """Every count of the ledger is there for each startup, and each gauge by its name."""
    found = exposed(Metrics(), {"acme": Counts(7, 6, 1, 3, 2, 1)})
    assert found["gateway_connected",] == 1
    for name, count in {"received": 7, "accepted": 6, "rejected": 1, "stored": 3, "refused": 1}.items():
        assert found[f"gateway_{name}_records_total", "acme"] == count
    assert found["gateway_journaled_records", "acme"] == 2


def test_reasons_are_counted() -> None:
    """Each reason of each rejection is counted, by startup and code."""
    metrics = Metrics()
    reasons = tuple(Reason(code, "/", "a", "b") for code in (Code.MISSING, Code.MISSING, Code.BAD_TIME))
    metrics.rejected([Rejection("beta", "d", "t", b"", NOW, reasons), rejection(), rejection()])
    found = exposed(metrics, {})
    assert found["gateway_rejection_reasons_total", "missing", "beta"] == 2
    assert found["gateway_rejection_reasons_total", "bad_time", "beta"] == 1
    assert found["gateway_rejection_reasons_total", "not_json", "acme"] == 2


def test_two_gateways_do_not_mix() -> None:
    """Two gateways of one process count for themselves."""
    one, other = Metrics(), Metrics()
    one.rejected([rejection()])
    one.batch_messages.observe(5)
    assert ("gateway_rejection_reasons_total", "not_json", "acme") not in exposed(other, {})
    assert exposed(one, {})["gateway_batch_messages_count",] == 1
    assert exposed(other, {})["gateway_batch_messages_count",] == 0


def test_a_removed_startup_leaves_no_series() -> None:
    """Series of a removed startup end; those of the others and of messages without a startup keep their counts."""
    metrics = Metrics()
    reasons = (Reason(Code.BAD_TIME, "/", "a", "b"),)
    metrics.rejected([Rejection(slug, "d", "t", b"", NOW, reasons) for slug in ("acme", "beta", UNROUTED)])
    metrics.keep_only(["acme"])
    counted = {key[2] for key in exposed(metrics, {}) if key[0] == "gateway_rejection_reasons_total"}
    assert counted == {"acme", UNROUTED}
