"""What is generated from topic rules: panels, units, thresholds, variables, and always the same."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from gateway.config.startup_file import FieldRule
from gateway.provision import dashboard_json, grafana_names, grafana_panels
from tests.builders import config, samples, startup

Json = dict[str, Any]

TOPICS: Json = {
    "charging": {
        "topic": "testbed/acme/{device}/{connector}/charging",
        "fields": {
            "power": {"type": "float", "unit": "watt", "min": 0, "max": 22_000},
            "energy": {"type": "int", "unit": "watth", "min": 0},
            "ph": {"type": "float", "unit": "mS/cm"},
            "locked": {"type": "bool"},
            "state": {"type": "string"},
        },
        "tags": {"firmware": "/fw"},
    }
}


def generated(**topics: Any) -> Json:
    """The dashboard of the one measurement."""
    one = startup("acme", topics or TOPICS)
    ((name, rule),) = one.topics.items()
    return dashboard_json.generate(one, name, rule)


def panel(title: str, model: Json | None = None) -> Json:
    return next(one for one in (model or generated())["panels"] if one["title"] == title)


def defaults(title: str) -> Json:
    found: Json = panel(title)["fieldConfig"]["defaults"]
    return found


def test_a_panel_for_each_field_then_what_concerns_devices() -> None:
    """In the order of the rule."""
    assert [(one["title"], one["type"]) for one in generated()["panels"]] == [
        ("power", "timeseries"),
        ("energy", "timeseries"),
        ("ph", "timeseries"),
        ("locked", "state-timeline"),
        ("state", "state-timeline"),
        ("Last seen: charging", "table"),
        ("Rejected, by reason", "timeseries"),
        ("Rejected, by device", "table"),
    ]


def test_the_overview_has_every_measurement_and_all_rejections() -> None:
    """One table a measurement, since each has its own columns."""
    greenbed = samples().by_slug["greenbed"]
    assert [one["title"] for one in dashboard_json.overview(greenbed)["panels"]] == [
        "Rejected, by reason",
        "Rejected, by device",
        "Last seen: soil",
        "Last seen: pump",
    ]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("celsius", "celsius"),
        ("conμgm3", "conμgm3"),
        ("pH", "pH"),
        ("mS/cm", "suffix:mS/cm"),
        ("% vol", "suffix:% vol"),
        ("prefix:£", "prefix:£"),
        ("a:b", "suffix:a:b"),
        ("", ""),
    ],
)
def test_units_are_grafanas_or_suffixes(name: str, shown: str) -> None:
    """A text that Grafana could take for something else is marked as a suffix."""
    assert grafana_panels.unit(name) == shown


@pytest.mark.parametrize(
    ("limits", "steps"),
    [
        ({"min": -40, "max": 125}, [("red", None), ("green", -40.0), ("red", 125.0)]),
        ({"min": 0}, [("red", None), ("green", 0.0)]),
        ({"max": 5}, [("green", None), ("red", 5.0)]),
        ({}, [("green", None)]),
    ],
)
def test_a_range_becomes_thresholds(limits: Json, steps: list[tuple[str, float | None]]) -> None:
    """Green inside, red outside, in rising order."""
    field = FieldRule.model_validate({"type": "float", **limits})
    found = grafana_panels.thresholds(field)["steps"]
    assert [(step["color"], step["value"]) for step in found] == steps


def test_a_number_has_its_unit_and_its_range_drawn_but_a_free_axis() -> None:
    """A pinned axis would flatten what is small in its range."""
    power = defaults("power")
    assert power["unit"] == "watt"
    assert power["thresholds"]["steps"][-1] == {"color": "red", "value": 22_000.0}
    assert power["custom"]["thresholdsStyle"] == {"mode": "line"}
    assert not {"min", "max"} & power.keys()
    assert defaults("ph")["custom"]["thresholdsStyle"] == {"mode": "off"}


def test_a_boolean_is_shown_in_words() -> None:
    """As yes and no, in the strip and in the table."""
    (mapping,) = defaults("locked")["mappings"]
    assert {key: value["text"] for key, value in mapping["options"].items()} == {"true": "yes", "false": "no"}


def test_the_table_shows_when_each_device_was_last_seen_with_units_and_ranges() -> None:
    """It looks further back than the dashboard, orders its columns and sorts by age."""
    table = panel("Last seen: charging")
    overrides = {
        one["matcher"]["options"]: {each["id"]: each["value"] for each in one["properties"]}
        for one in table["fieldConfig"]["overrides"]
    }
    assert table["timeFrom"] == "7d"
    assert overrides["Time"]["unit"] == "dateTimeFromNow"
    assert (overrides["power"]["unit"], overrides["power"]["min"], overrides["power"]["max"]) == ("watt", 0, 22_000)
    order = table["transformations"][0]["options"]["indexByName"]
    assert sorted(order, key=order.__getitem__)[:3] == ["device", "connector", "Time"]
    assert set(order) == {"device", "connector", "Time", "power", "energy", "ph", "locked", "state", "firmware"}


def test_a_variable_for_each_tag() -> None:
    """Several values or all; `.*` for all takes in what has no such tag."""
    variables = generated()["templating"]["list"]
    assert [one["name"] for one in variables] == ["device", "connector", "firmware"]
    assert all(one["multi"] and one["includeAll"] and one["allValue"] == ".*" for one in variables)


def test_everything_names_the_startups_data_source_by_uid() -> None:
    """And no other: not by name, and no default."""
    text = json.dumps(dashboard_json.generate_all(startup("acme", TOPICS)))
    uids = re.findall(r'"datasource": \{"type": "(\w+)", "uid": "([\w-]+)"\}', text)
    assert set(uids) == {("influxdb", "testbed-acme")}
    assert text.count('"datasource"') == len(uids)


@pytest.mark.parametrize("one", samples().startups, ids=lambda one: one.slug)
def test_panels_have_ids_and_places_of_their_own(one: Any) -> None:
    """Nothing overlaps, nothing sticks out."""
    for model in dashboard_json.generate_all(one):
        taken: set[tuple[int, int]] = set()
        for each in model["panels"]:
            place = each["gridPos"]
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert max(x for x, _ in cells) < 24
            assert not cells & taken
            taken |= cells
        assert [each["id"] for each in model["panels"]] == list(range(1, len(model["panels"]) + 1))


def test_the_same_rules_give_the_same_json() -> None:
    """Also from a configuration that was read twice; and the hash is in a tag."""
    first, second = ([dashboard_json.generate_all(one) for one in found.startups] for found in (samples(), samples()))
    assert json.dumps(first) == json.dumps(second)
    for model in (model for several in first for model in several):
        assert model["tags"] == ["testbed-generated", f"generated:{dashboard_json.hash_in(model['tags'])}"]
        assert len(dashboard_json.hash_in(model["tags"])) == 8


def test_another_rule_gives_another_hash() -> None:
    """Of the measurement that changed, and of no other startup."""
    topics = json.loads(json.dumps(TOPICS))
    topics["charging"]["fields"]["power"]["max"] = 11_000
    assert generated()["tags"] != generated(**topics)["tags"]


def test_uids_are_legal_short_and_distinct() -> None:
    """However long a measurement's name is, and in whatever case, with room for `-v99`."""
    slug, long = "a" * 31, "m" * 63
    made = [
        grafana_names.uid(slug, long),
        grafana_names.uid(slug, long[:-1]),
        grafana_names.uid("acme", "Climate"),
        grafana_names.uid("acme", "climate"),
        grafana_names.uid("acme", grafana_names.OVERVIEW),
    ]
    assert len(set(made)) == len(made)
    assert all(re.fullmatch(r"[a-z0-9_-]{1,36}", uid) for uid in made)
    assert len(grafana_names.home_uid(slug)) <= grafana_names.LONGEST_UID
    for number in (1, 2, 10, 99):
        assert grafana_names.split_beside(grafana_names.beside("acme-climate", number)) == ("acme-climate", number)


def test_an_organisations_name_contains_the_slug() -> None:
    """Read back, also where the display name has brackets of its own."""
    (one,) = config(startup("acme", name="Acme (Air)")).startups
    assert grafana_names.org_name(one) == "Acme (Air) (acme)"
    assert grafana_names.slug_of(grafana_names.org_name(one)) == "acme"
    assert grafana_names.slug_of("Main Org.") == ""
