"""Alert rules, in the form that Grafana's provisioning API takes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.provision import alerts
from tests.builders import samples, startup


def test_one_rule_a_measurement_for_silence_and_one_for_what_is_out_of_range() -> None:
    """The latter only where some field has a range."""
    assert [rule["uid"] for rule in alerts.alert_rules(samples().by_slug["acme"])] == [
        "acme-climate-silent",
        "acme-air-silent",
        "acme-out-of-range",
    ]
    assert [rule["uid"] for rule in alerts.alert_rules(startup())] == ["acme-climate-silent"]


@pytest.mark.parametrize("one", samples().startups, ids=lambda one: one.slug)
def test_rules_are_complete(one: Any) -> None:
    """A query, its one value, a comparison; in the startup's folder, with its data source."""
    for rule in alerts.alert_rules(one):
        assert (rule["folderUID"], rule["condition"]) == (f"testbed-{one.slug}", "C")
        assert [(each["refId"], each["datasourceUid"]) for each in rule["data"]] == [
            ("A", f"testbed-{one.slug}"),
            ("B", "__expr__"),
            ("C", "__expr__"),
        ]
        assert all(each["model"]["refId"] == each["refId"] for each in rule["data"])
        assert (rule["noDataState"], rule["execErrState"], rule["for"]) == ("OK", "KeepLast", "0s")
        assert len(rule["uid"]) <= 40


def test_no_data_from_a_device_is_less_than_one_value() -> None:
    """One alert a device, of those seen within seven days."""
    rule = alerts.alert_rules(startup())[0]
    ask, reduce, compare = (one["model"] for one in rule["data"])
    assert ask["query"].endswith('GROUP BY "device"')
    assert "now() - 900s" in ask["query"]
    assert (reduce["expression"], reduce["reducer"]) == ("A", "last")
    assert compare["conditions"] == [{"evaluator": {"type": "lt", "params": [0.5]}}]
    assert rule["data"][0]["relativeTimeRange"] == {"from": 7 * 86_400, "to": 0}
    assert rule["annotations"]["summary"] == "{{ $labels.device }} has sent no climate for 15 minutes"


def test_out_of_range_asks_the_rejections() -> None:
    """Any in the last ten minutes."""
    rule = alerts.alert_rules(samples().by_slug["acme"])[-1]
    assert "\"code\" = 'out_of_range'" in rule["data"][0]["model"]["query"]
    assert rule["data"][0]["relativeTimeRange"] == {"from": 600, "to": 0}
    assert rule["data"][2]["model"]["conditions"] == [{"evaluator": {"type": "gt", "params": [0]}}]


def test_the_same_rules_give_the_same_json_and_others_another_hash() -> None:
    """The hash stands in an annotation."""
    acme = samples().by_slug["acme"]
    assert json.dumps(alerts.alert_rules(acme)) == json.dumps(alerts.alert_rules(acme))
    hashes = {rule["annotations"][alerts.HASH] for one in samples().startups for rule in alerts.alert_rules(one)}
    assert len(hashes) == sum(len(alerts.alert_rules(one)) for one in samples().startups)
