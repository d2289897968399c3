"""Verdicts of the attacks, and what a scenario is made of. Nothing here measures time."""

from __future__ import annotations

import io
import math
import re
from dataclasses import replace

import pytest
from rich.console import Console

from bench import packets
from tests.attack import messages
from tests.attack.bed import Scale
from tests.attack.measure import Line, Seen
from tests.attack.scenario import Attack, attack, scenarios
from tests.attack.table import table
from tests.builders import ROOT
from tests.harness.check import Check


def seen(p99: float, lost: int = 0) -> Seen:
    latencies = [1.0] * 97 + [p99] * 3
    return Seen(100, lost, {"live": latencies, "stored": latencies, "query": latencies})


def line(control: float, attacked: float) -> Line:
    scenario = next(iter(scenarios().values()))
    return Line(scenario, seen(control), seen(attacked), ["5,000 messages/s"], {"gateway": 90.0, "broker": 12.0})


@pytest.mark.parametrize(
    ("control", "attacked", "good"),
    [(5, 19, True), (5, 21, False), (100, 119, True), (100, 121, False), (5, math.inf, False)],
)
def test_a_p99_may_be_1_2_times_that_of_the_victim_alone(control: float, attacked: float, good: bool) -> None:
    """Or 20 ms, if that is more; a message that never came is worse than any."""
    assert line(control, attacked).good == good


def test_a_line_is_good_if_nothing_is_lost_and_nothing_grows() -> None:
    """Each of them decides: a lost message, a server's memory, a check of the scenario's own."""
    whole = line(5, 6)
    assert whole.good
    assert not replace(whole, attacked=seen(6, lost=1)).good
    assert not replace(whole, peak={"gateway": 401, "broker": 12}).good
    assert not replace(whole, peak={"gateway": 90, "broker": 2049}).good
    assert not replace(whole, checks=[Check("the gateway runs", good=False)]).good


def test_the_table_names_what_failed() -> None:
    """An attack, what was received, the ratio, what it reached, and each check that failed."""
    shown = io.StringIO()
    failed = replace(
        line(10, math.inf), attacked=seen(math.inf, lost=3), checks=[Check("the gateway runs", good=False)]
    )
    Console(width=200, file=shown).print(table([failed]))
    text = shown.getvalue()
    assert all(part in text for part in ("97 of 100", "never", "∞", "5,000 messages/s", "failed: the gateway runs"))


def test_every_attack_says_what_it_does() -> None:
    """They have names that differ, as a command line takes them."""
    for name, scenario in scenarios().items():
        assert name == scenario.name
        assert name.islower()
        assert scenario.about
    with pytest.raises(ValueError, match="two scenarios"):
        attack("again")(next(iter(_functions())))


def _functions() -> list[Attack]:
    from tests.attack.scenarios import floods

    return [floods.arrays_6000]


def test_every_attack_is_in_the_threat_model() -> None:
    """The page names each scenario, and no other."""
    page = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")
    rows = page.partition("| attack by | scenarios |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`([a-z0-9-]+)`", rows)) == set(scenarios())


def test_a_block_has_packets_of_one_length() -> None:
    """Each of its own topic and payload, with a packet id; packets of several lengths are rejected."""
    made = messages.block(lambda number: f"a/{number:03}", lambda number: b"%03d" % number, most=50)
    assert made.units == 50
    stride = len(made.data) // made.units
    assert made.data[stride : 2 * stride] == packets.publish("a/001", b"001", 1, 2, 4)
    with pytest.raises(ValueError, match="one length"):
        messages.block(lambda number: f"a/{number}", b"", most=50)


def test_a_scale_shrinks_counts() -> None:
    """A short form has a share of them, and at least one."""
    assert (Scale().of(1000), Scale(share=0.1).of(1000), Scale(share=0.1).of(3)) == (1000, 100, 1)


def test_connect_has_an_account() -> None:
    """User name and password follow the client id, and their flags are set (MQTT 3.1.1, 3.1.2.3)."""
    packet = messages.connect("acme.d-1", "secret")
    assert packet[9] == 0xC2
    assert packet.endswith(b"\x00\x08acme.d-1\x00\x08acme.d-1\x00\x06secret")
