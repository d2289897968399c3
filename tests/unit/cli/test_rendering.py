"""Output of the commands for people."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import pytest
from rich.console import Console, RenderableType

from gateway.cli import demo_rendering, rendering
from gateway.cli.demo import Access, Report
from gateway.cli.options import print_json
from gateway.ingest.outcome import Evaluation
from gateway.model import UNROUTED, Code, Counts, Reading, Reason, Rejection
from gateway.provision import rendering as provision_rendering
from gateway.provision.handout import Endpoints
from gateway.provision.plan import Conflict, Credential, Plan, Resource, Step
from gateway.provision.run import Applied
from gateway.state.dead_letters import DeadLetter
from tests.builders import NOW, startup

ESCAPE = "\x1b]0;owned\x07\x9b2J\n✓ forged\u202e\u2066\u2028\x85"
HOSTILE = Rejection(
    "acme",
    f"th{ESCAPE}",
    f"testbed/acme/{ESCAPE}",
    f'{{"t": "{ESCAPE}"}}\n'.encode(),
    NOW,
    (Reason(Code.BAD_DEVICE, "topic", "a name", ESCAPE), Reason(Code.NOT_JSON, "payload", "JSON", "none")),
)


def shown(what: RenderableType, *, terminal: bool = False) -> str:
    out = Console(file=io.StringIO(), width=500, force_terminal=terminal, color_system=None, highlight=False)
    out.print(what, soft_wrap=True)
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


def replayed_again() -> list[dict[str, Any]]:
    reason = {"where": "/a[b]", "expected": "x", "got": ESCAPE}
    return [{"id": 1, "result": "accepted"}, {"id": 2, "result": "rejected again", "reasons": [reason]}]


@pytest.mark.parametrize(
    "what",
    [
        rendering.dead_letters([DeadLetter(1, HOSTILE, len(HOSTILE.payload))]),
        rendering.dead_letter(DeadLetter(1, HOSTILE, len(HOSTILE.payload))),
        rendering.evaluation(Evaluation(rejection=HOSTILE)),
        rendering.evaluation(Evaluation([Reading("acme", "t", "m", {}, {"s": ESCAPE}, NOW)], [f's="{ESCAPE}"'])),
        rendering.replayed(replayed_again()),
        rendering.event("reading", {"time": "now", "device": "t", "measurement": "m", "fields": {"s": ESCAPE}}),
        rendering.event(
            "rejection", {"time": "now", "device": "", "topic": ESCAPE, "reasons": replayed_again()[1]["reasons"]}
        ),
    ],
    ids=["dead letters", "dead letter", "rejected", "accepted", "replayed", "reading", "rejection"],
)
def test_control_characters_of_devices_are_escaped(what: RenderableType) -> None:
    """Control characters that a device sent are escaped, never sent to the terminal."""
    text = shown(what, terminal=True)
    assert not [one for one in text if not one.isprintable() and one != "\n"]
    assert r"\x1b]0;owned\x07\x9b2J\n✓ forged\u202e\u2066\u2028\x85" in text
    assert not [line for line in text.splitlines() if line.startswith("✓ forged")]


def test_no_text_reaches_a_terminal_unescaped(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever prints, and wherever the text is from; what the layout sends is kept."""
    out = rendering.console()
    out.print(f"plain {ESCAPE}")
    out.print(rendering.error(ESCAPE))
    printed = capsys.readouterr()
    assert "\x1b" not in printed.out
    assert not [one for one in printed.out if not one.isprintable() and one != "\n"]


def test_json_is_safe_on_a_terminal_and_unchanged(capsys: pytest.CaptureFixture[str]) -> None:
    """What is not printed as itself is escaped, as JSON does it."""
    print_json({ESCAPE: [ESCAPE, "\U000e0001", "Zürich"]})
    printed = capsys.readouterr().out
    assert not [one for one in printed if not one.isprintable() and one != "\n"]
    assert json.loads(printed) == {ESCAPE: [ESCAPE, "\U000e0001", "Zürich"]}


@pytest.mark.parametrize("what", ["plan", "applied", "startups"])
def test_names_of_other_servers_are_escaped(what: str) -> None:
    """Somebody at Grafana or in a configuration file chose them."""
    resource = Resource("grafana", "user", ESCAPE, {"holds": [ESCAPE]}, "acme")
    one = Plan((Step("create", resource, (ESCAPE,)),), (Conflict(resource),), (resource,), (resource,))
    made = [Credential("acme", "Grafana", ESCAPE, "secret")]
    rendered: RenderableType = {
        "plan": provision_rendering.plan(one),
        "applied": provision_rendering.applied(one, Applied((), tuple(made), one.steps[0], ESCAPE)),
        "startups": provision_rendering.startups([startup("acme", name=ESCAPE, cohort=ESCAPE)]),
    }[what]
    text = shown(rendered, terminal=True)
    assert not [one for one in text if not one.isprintable() and one != "\n"]
    assert not [line for line in text.splitlines() if line.strip().startswith("✓ forged")]


def test_dead_letters_show_how_many_reasons() -> None:
    """A list has the first reason of each dead letter, and how many more there are."""
    assert "(+1 more)" in shown(rendering.dead_letters([DeadLetter(1, HOSTILE, len(HOSTILE.payload))]))


def test_replayed() -> None:
    """A replay shows the result of each dead letter, with the reasons if it is rejected again."""
    text = shown(rendering.replayed(replayed_again()))
    assert text.splitlines()[:2] == ["✓ 1: accepted", "✗ 2: rejected again"]
    assert "    /a[b]: expected x; got " in text


@pytest.mark.parametrize(
    ("kind", "data", "text"),
    [
        (
            "reading",
            {"time": "T", "device": "th-1", "measurement": "air", "fields": {"co2": 415, "ok": True}},
            "T  th-1  air  co2=415  ok=True",
        ),
        (
            "rejection",
            {"time": "T", "device": "th-1", "topic": "x", "reasons": [{"where": "/t", "expected": "a", "got": "b"}]},
            "T  th-1  rejected  /t: expected a; got b",
        ),
        ("missed", {"count": 3}, "… 3 events were missed …"),
        ("missed", {}, "… some events were missed …"),
    ],
)
def test_events(kind: str, data: Mapping[str, Any], text: str) -> None:
    """`gateway tail` prints one line for each event."""
    assert shown(rendering.event(kind, data)) == f"{text}\n"


def test_ledger_that_does_not_balance() -> None:
    """A ledger that does not balance is marked, in its row and in the sum."""
    text = shown(rendering.ledger_table({"acme": Counts(received=2, accepted=1), "beta": Counts()}))
    marks = {line.split()[0]: line.split()[-1] for line in text.splitlines() if line.strip()}
    assert (marks["acme"], marks["beta"], marks["all"]) == ("✗", "✓", "✗")


def test_the_ledger_fits_a_terminal() -> None:
    """Millions of readings are shown in full in 80 columns."""
    out = Console(file=io.StringIO(), width=80, color_system=None)
    out.print(
        rendering.ledger_table({"voltwise": Counts(1_234_567, 1_234_567, 0, 1_234_000, 567), UNROUTED: Counts(1)})
    )
    assert isinstance(out.file, io.StringIO)
    assert out.file.getvalue().split().count("1,234,567") == 3
    assert "…" not in out.file.getvalue()


def test_long_topics_in_the_list_of_dead_letters() -> None:
    """A topic of 60 kB takes a line or two of the list, not a thousand."""
    long = Rejection("acme", "x" * 60_000, "testbed/acme/" + "x" * 60_000, b"", NOW, HOSTILE.reasons)
    assert len(shown(rendering.dead_letters([DeadLetter(1, long, 0)]))) < 3000


def test_health() -> None:
    """Each part is shown as ok, or with its problem."""
    text = shown(rendering.health({"parts": {"broker": {}, "disk": {"problem": "full [100%]"}}}, "http://x"))
    assert text == "✓ broker\n✗ disk: full [100%]\n"


def test_access() -> None:
    """The demo says where to look, and with which tokens."""
    text = shown(demo_rendering.access(Access(Endpoints("mqtt://h:2", "http://h:1"), {"acme": "tok"}, "op")))
    for part in ("http://h:1", "http://h:1/docs", "mqtt://h:2", "token of acme", "tok", "token of operators"):
        assert part in text


def test_growing_ledger_in_a_pipe() -> None:
    """Where there is no terminal, the ledger is a line at the beginning and every five seconds."""
    out = Console(file=io.StringIO(), width=500)
    with demo_rendering.growing_ledger(out, 20) as show:
        for passed in (0.0, 1.0, 4.9, 5.0, 9.0, 10.5):
            show(Report({"acme": Counts(received=1234)}, 1), passed)
    assert isinstance(out.file, io.StringIO)
    lines = out.file.getvalue().splitlines()
    assert [line.split()[0] for line in lines] == ["0", "5", "10"]
    assert "received 1,234" in lines[0]


@pytest.mark.parametrize(("seconds", "text"), [(20.0, "5 of 20 s"), (None, "5 s; Ctrl-C drains and stops")])
def test_growing_ledger_on_a_terminal(seconds: float | None, text: str) -> None:
    """On a terminal the ledger grows in place, with the time that is left or how to stop."""
    out = Console(file=io.StringIO(), width=500, force_terminal=True, color_system=None)
    with demo_rendering.growing_ledger(out, seconds) as show:
        show(Report({"acme": Counts(received=1234)}, 1), 5.0)
    assert isinstance(out.file, io.StringIO)
    assert "1,234" in out.file.getvalue()
    assert text in out.file.getvalue()
