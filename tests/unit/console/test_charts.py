"""Data of the charts: panels, lines, points."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.config import Startup, load
from gateway.console import charts
from gateway.console.chart_lines import MAX_LINES, Lines
from gateway.console.charts import BUCKET_NS, MAX_DEVICES, Drawing
from gateway.timestamps import NS

CONFIG = load(Path(__file__).parents[3] / "config")
T0 = 1_795_000_000 * NS


def startup(slug: str) -> Startup:
    return CONFIG.by_slug[slug]


def drawn(slug: str, *devices: str) -> Drawing:
    drawing = Drawing(startup(slug))
    drawing.choose(devices)
    return drawing


def climate(drawing: Drawing, device: str, temperature: float, time_ns: int, **tags: str) -> None:
    drawing.add("climate", device, tags, {"temperature": temperature}, time_ns)


def taken(drawing: Drawing) -> dict[charts.Panel, dict[str, Any]]:
    return dict(drawing.take())


def test_every_field_of_every_rule_has_a_panel() -> None:
    """Numbers are curves, booleans and strings are strips."""
    panels = Drawing(startup("voltwise")).panels
    assert [name for _, name in panels] == ["state", "locked", "voltage", "current", "power", "energy"]
    assert [name for (_, name), rule in panels.items() if charts.is_state(rule)] == ["state", "locked"]


def test_a_panel_shows_its_unit_and_limits() -> None:
    """In words, and as numbers for the lines in the chart."""
    panel = ("climate", "temperature")
    spec = charts.spec(panel, Drawing(startup("acme")).panels[panel], 900.0)
    assert (spec["unit"], spec["min"], spec["max"]) == ("°C", -40, 125)
    assert spec["limits"] == "accepts −40 to 125 °C"
    assert spec["label"] == "climate: temperature in °C, the last 15 minutes"
    assert spec["holds"] == 900_000


def test_points_travel_once() -> None:
    """What was taken is gone. Of each bucket the mean is drawn, and the newest value is sent with it."""
    drawing = drawn("acme", "air-01")
    climate(drawing, "air-01", 21.0, T0)
    climate(drawing, "air-01", 22.0, T0 + 1)
    climate(drawing, "air-01", 23.0, T0 + BUCKET_NS)
    climate(drawing, "air-01", 20.0, T0 - BUCKET_NS)
    new = taken(drawing)
    first = T0 // BUCKET_NS
    assert new == {
        ("climate", "temperature"): {
            "lines": [["air-01", "air-01", 0, 0]],
            "points": {"air-01": [[first - 1, 20.0, 1], [first, 21.5, 2], [first + 1, 23.0, 1]]},
            "last": {"air-01": [(T0 + BUCKET_NS) // 1_000_000, 23.0]},
        }
    }
    assert taken(drawing) == {}


def test_a_stored_bucket_outweighs_its_live_duplicate() -> None:
    """The newest readings are both in the store and in the ring of live events."""
    drawing = drawn("acme", "air-01")
    drawing.add("climate", "air-01", {}, {"temperature": 21.0}, T0, 1000)
    climate(drawing, "air-01", 21.5, T0)
    ((_, mean, weight),) = taken(drawing)["climate", "temperature"]["points"]["air-01"]
    assert mean == pytest.approx(21.0, abs=0.001)
    assert weight == 1001


def test_what_is_not_drawn_costs_nothing() -> None:
    """Other devices, measurements that no longer have a rule, fields that no rule names."""
    drawing = drawn("acme", "air-01")
    climate(drawing, "air-02", 21.0, T0)
    drawing.add("gone", "air-01", {}, {"temperature": 1.0}, T0)
    drawing.add("climate", "air-01", {}, {"extra": 1.0}, T0)
    assert taken(drawing) == {}
    assert drawing.known == ["air-01", "air-02"]


def test_buckets_of_one_state_are_one_step() -> None:
    """A strip gets first bucket, last bucket and state; booleans are yes and no."""
    drawing = drawn("voltwise", "charger-01")
    for second, locked in enumerate([True, True, False, True]):
        drawing.add("charging", "charger-01", {"connector": "1"}, {"locked": locked}, T0 + second * BUCKET_NS)
    first = T0 // BUCKET_NS
    steps = taken(drawing)["charging", "locked"]["points"]["charger-01\x1fconnector\x1f1"]
    assert steps == [[first, first + 1, "yes"], [first + 2, first + 2, "no"], [first + 3, first + 3, "yes"]]


def test_a_long_string_is_cut() -> None:
    """A state is a word, not a letter."""
    drawing = drawn("voltwise", "charger-01")
    drawing.add("charging", "charger-01", {}, {"state": "x" * 1000}, T0)
    ((_, _, state),) = taken(drawing)["charging", "state"]["points"]["charger-01"]
    assert len(state) == charts.MAX_TEXT


def test_devices_are_taken_up_of_each_measurement_in_turn() -> None:
    """So that no chart stays empty because the first devices send something else."""
    drawing = Drawing(startup("greenbed"))
    for number in range(20):
        drawing.see("soil", f"probe-{number:02}")
    drawing.see("pump", "pump-01")
    new = drawing.fill_up()
    assert len(new) == MAX_DEVICES
    assert "pump-01" in new
    assert sorted(drawing.colours.values()) == list(range(MAX_DEVICES))
    assert drawing.fill_up() == []


def test_a_choice_is_kept() -> None:
    """A device that comes later does not push itself into a choice; who stays keeps the colour."""
    drawing = Drawing(startup("acme"))
    for name in ("a", "b", "c"):
        drawing.see("climate", name)
    drawing.fill_up()
    colour = drawing.colours["c"]
    assert drawing.choose(["c", "d"]) == (["a", "b"], ["d"])
    assert drawing.colours == {"c": colour, "d": 0}
    drawing.see("climate", "e")
    assert drawing.fill_up() == []


def test_a_choice_is_bounded() -> None:
    """There are only so many colours."""
    drawing = drawn("acme", *[f"air-{number}" for number in range(50)])
    assert len(drawing.colours) == MAX_DEVICES


def test_points_of_a_removed_device_are_dropped() -> None:
    """They would have no colour when they are taken."""
    drawing = drawn("acme", "air-01", "air-02")
    climate(drawing, "air-01", 21.0, T0)
    climate(drawing, "air-02", 22.0, T0)
    drawing.choose(["air-02"])
    assert list(taken(drawing)["climate", "temperature"]["points"]) == ["air-02"]


def test_a_line_is_named_by_device_and_captured_tags() -> None:
    """Further tags are shown only if two lines would have the same name."""
    lines = Lines(["connector"])
    labels = [
        lines.find("c-1", {"connector": "1", "firmware": "1.0"}),
        lines.find("c-1", {"connector": "2", "firmware": ""}),
        lines.find("c-1", {"connector": "1", "firmware": "1.1"}),
    ]
    assert [line.label for line in labels if line] == ["c-1 · 1", "c-1 · 2", "c-1 · 1 · firmware 1.1"]
    assert [line.dash for line in labels if line] == [0, 1, 2]


def test_a_live_reading_and_a_stored_row_are_the_same_line() -> None:
    """A store returns the device among the tags, and omits empty tags."""
    lines = Lines([])
    live = lines.find("a", {"firmware": "", "room": "x"})
    assert live == lines.find("a", {"room": "x", "device": "a"})


def test_lines_are_bounded() -> None:
    """Too many are counted, and not drawn; room that a device leaves is used."""
    lines = Lines([])
    for number in range(MAX_LINES + 3):
        lines.find("a" if number else "b", {"n": str(number)})
        lines.find("a" if number else "b", {"n": str(number)})
    assert lines.left_out == 3
    lines.drop("b")
    assert lines.find("c", {}) is not None
    assert lines.left_out == 0


@pytest.mark.parametrize(("value", "shown"), [(0.1 + 0.2, 0.3), (857_255, 857_255.0), (-40, -40.0)])
def test_values_travel_with_the_digits_that_can_be_seen(value: float, shown: float) -> None:
    """Seven digits."""
    drawing = drawn("acme", "a")
    climate(drawing, "a", value, T0)
    assert taken(drawing)["climate", "temperature"]["points"]["a"][0][1] == shown
