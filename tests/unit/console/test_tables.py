"""The tables' rows."""

from __future__ import annotations

from gateway.console import tables
from gateway.console.sampler import Rates
from gateway.model import UNROUTED, Counts
from gateway.state.devices import Device
from gateway.timestamps import NS
from tests.builders import samples, startup

CONFIG = samples()
RULE = {"topic": "testbed/acme/{device}/climate", "fields": {"value": {"type": "float"}}}
ACME = startup(topics={"climate": RULE | {"silent_after": "5m"}})
PATIENT = startup(topics={"climate": RULE | {"silent_after": "90s"}, "door": RULE | {"silent_after": "2d"}})
NOW_NS = 1_795_000_000 * NS


def device(name: str, age: int, rejected_age: int | None = None) -> Device:
    seen = NOW_NS - age * NS
    rejected_ns = NOW_NS - rejected_age * NS if rejected_age is not None else 0
    return Device("acme", name, seen, seen, 1234, 5, rejected_ns)


DEVICES = [device("a", 12), device("b", 1, 1), device("c", 400)]


def test_a_device_has_its_state_in_a_word() -> None:
    """ok, rejected or silent, with when it was seen and its counts."""
    rows = tables.device_rows(ACME, DEVICES, NOW_NS)
    assert [row["cells"]["state"][0] for row in rows] == ["ok", "rejected", "silent"]
    assert [row["cells"]["seen"][0] for row in rows] == ["12 s ago", "just now", "6 min ago"]
    assert rows[0]["cells"]["accepted"] == ("1,234", 1234)


def test_silence_follows_silent_after_of_the_rule() -> None:
    """A device is silent after `silent_after` of the rule that it sends under, and the remark says how long that is."""
    seen = NOW_NS - 400 * NS
    devices = [Device("acme", "t", seen, seen, 1, measurements=frozenset({name})) for name in ("climate", "door")]
    shown = [row["cells"]["state"] for row in tables.device_rows(PATIENT, devices, NOW_NS)]
    assert [state for state, *_ in shown] == ["silent", "ok"]
    assert shown[0][2] == "nothing received for more than 90 s"


def test_rows_have_a_cell_for_each_column() -> None:
    """The browser relies on it."""
    (row, *_) = tables.device_rows(ACME, DEVICES, NOW_NS)
    assert row["cells"].keys() == {column["name"] for column in tables.DEVICE_COLUMNS}
    acme = CONFIG.by_slug["acme"]
    row_of_acme = tables.startup_row(acme, Counts(), Rates(), {})
    stray = tables.stray_row(UNROUTED, Counts(), Rates())
    assert row_of_acme["cells"].keys() == stray["cells"].keys() == {column["name"] for column in tables.STARTUP_COLUMNS}
    assert row_of_acme["link"] == "/startups/acme"
    assert "link" not in stray


def test_devices_in_the_table_are_bounded() -> None:
    """A startup with thousands must not make the page unusable."""
    many = [device(str(number), 1) for number in range(1000)]
    assert len(tables.device_rows(ACME, many, NOW_NS)) == tables.DEVICES_SHOWN


def test_states_are_counted_in_words() -> None:
    """Those that there are, the good ones first."""
    assert tables.states_in_words(tables.states(ACME, DEVICES, NOW_NS)) == "1 ok, 1 rejected, 1 silent"
    assert tables.states_in_words({}) == "none yet"


def test_an_operator_sees_whether_a_startup_balances() -> None:
    """In green or red, with what is wrong in words; a failing store is shown too."""
    acme = CONFIG.by_slug["acme"]
    good = tables.startup_row(acme, Counts(3, 2, 1, 2), Rates(received=1.25), {"ok": 2})
    assert good["cells"]["balanced"] == ("balanced", "good")
    assert good["cells"]["rate"] == ("1.2", 1.25)
    bad = tables.startup_row(acme, Counts(3, 2, 0, 2), Rates(), {}, "not authorized", "connection refused")
    assert bad["cells"]["balanced"] == ("does not balance", "bad", "1 too few accepted or rejected")
    assert bad["cells"]["session"] == ("away", "bad", "not authorized")
    assert bad["cells"]["store"] == ("waiting", "bad", "connection refused")
