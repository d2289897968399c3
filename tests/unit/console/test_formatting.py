"""Formatting for the page."""

from __future__ import annotations

from datetime import date

import pytest

from gateway.console import formatting
from gateway.model import Code, Counts, Reason, Rejection
from gateway.timestamps import NS

NOW_NS = 1_795_000_000 * NS


@pytest.mark.parametrize(
    ("name", "shown"),
    [("celsius", "°C"), ("percent", "%"), ("conμgm3", "µg/m³"), ("flowlpm", "L/min"), ("mS/cm", "mS/cm"), ("", "")],
)
def test_a_unit_is_written_as_people_write_it(name: str, shown: str) -> None:
    """Grafana's names become symbols; what it does not know stays as the rule has it."""
    assert formatting.unit(name) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-5, "just now"),
        (0, "just now"),
        (2, "just now"),
        (3, "3 s ago"),
        (59, "59 s ago"),
        (60, "1 min ago"),
        (3599, "59 min ago"),
        (3600, "1 h ago"),
        (86_400 * 5, "5 d ago"),
    ],
)
def test_an_age_has_one_unit(seconds: int, shown: str) -> None:
    """The largest unit that fits; a clock that is ahead makes nothing negative."""
    assert formatting.ago(NOW_NS - seconds * NS, NOW_NS) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.2, "0.2 s"), (90.0, "90 s"), (900.0, "15 min"), (7200.0, "2 h"), (2 * 86_400.0, "2 d")],
)
def test_a_duration_is_exact(seconds: float, shown: str) -> None:
    """The largest unit that gives a round number."""
    assert formatting.span(seconds) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (1234, "1,234"),
        (-40.0, "−40"),
        (21.5, "21.5"),
        (-0.042, "−0.042"),
        (1230.44, "1,230.44"),
        (1e6, "1,000,000"),
    ],
)
def test_a_number_is_as_exact_as_the_rule(value: float, shown: str) -> None:
    """Thousands apart, no zeros at the end, a real minus, and nothing rounded away."""
    assert formatting.number(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(0, "0"), (0.25, "0.25"), (7.96, "8"), (12.34, "12.3"), (1234.5, "1,234")]
)
def test_a_rate_is_rounded(value: float, shown: str) -> None:
    """The larger, the fewer digits."""
    assert formatting.rate(value) == shown


def test_a_share_that_is_tiny_is_not_called_zero() -> None:
    """One rejection in a million is still one."""
    assert formatting.share(1, 1_000_000) == "under 0.1 %"
    assert formatting.share(0, 10) == "0 %"
    assert formatting.share(84, 992) == "8.5 %"
    assert formatting.share(0, 0) == ""


def test_limits_say_what_is_accepted() -> None:
    """Both ends, one, or nothing to say."""
    assert formatting.limits(-40, 125, "°C") == "accepts −40 to 125 °C"
    assert formatting.limits(0, None, "Wh") == "accepts 0 Wh and more"
    assert formatting.limits(None, 1.5, "") == "accepts up to 1.5"
    assert formatting.limits(None, None, "V") == ""


def test_plurals_and_days() -> None:
    """One is one."""
    assert formatting.plural(1, "device") == "1 device"
    assert formatting.plural(1200, "reading") == "1,200 readings"
    assert formatting.day(date(2027, 6, 3)) == "3 Jun 2027"


def test_a_ledger_that_does_not_balance_says_by_how_much() -> None:
    """Both equations are looked at; one that balances says nothing."""
    assert formatting.imbalance(Counts(10, 8, 2, 8)) == ""
    assert (
        formatting.imbalance(Counts(10, 8, 1, 5))
        == "1 too few accepted or rejected; 3 too few stored, waiting or refused"
    )
    assert formatting.imbalance(Counts(10, 8, 2, 9)) == "1 too many stored, waiting or refused"


def rejection(*reasons: Reason, payload: bytes = b"{}", records: tuple[int, ...] = ()) -> Rejection:
    return Rejection("acme", "air-01", "testbed/acme/air-01/climate", payload, NOW_NS, reasons, records)


RANGE = Reason(Code.OUT_OF_RANGE, "/t", "a number from -40 to 125 (celsius)", "-127.0")
CLOCK = Reason(Code.BAD_TIME, "/ts", "milliseconds since 1970", "17", "it looks like seconds")


def test_a_rejection_is_shown_in_plain_words() -> None:
    """What is wrong in one line, then where, what was expected, with its unit, and what was found."""
    shown = formatting.rejection(rejection(RANGE, CLOCK))
    assert shown["title"] == "A value is out of range, and 1 more"
    assert shown["reasons"] == [
        {"where": "/t", "expected": "a number from -40 to 125 (°C)", "got": "-127.0", "hint": ""},
        {"where": "/ts", "expected": "milliseconds since 1970", "got": "17", "hint": "it looks like seconds"},
    ]
    assert shown["at"] == NOW_NS // 1_000_000
    assert shown["bytes"] == "2 bytes"


def test_every_code_has_a_title() -> None:
    """No rejection is without words."""
    for code in Code:
        assert formatting.title([Reason(code, "payload", "", "")])


def test_the_same_mistake_is_of_the_same_kind() -> None:
    """Device, topic, codes and places make a kind; values and the place in an array do not."""
    first = rejection(Reason(Code.MISSING, "/0/t", "a number", "nothing"))
    second = rejection(Reason(Code.MISSING, "/7/t", "a number", "nothing"), payload=b"[]", records=(7,))
    assert formatting.rejection(first)["kind"] == formatting.rejection(second)["kind"]
    assert formatting.rejection(first)["kind"] != formatting.rejection(rejection(RANGE))["kind"]


def test_only_some_of_many_reasons_are_shown() -> None:
    """The rest is counted."""
    shown = formatting.rejection(rejection(*[RANGE] * 20))
    assert len(list(shown["reasons"])) == formatting.SHOWN_REASONS  # type: ignore[call-overload]
    assert shown["more"] == 20 - formatting.SHOWN_REASONS


def test_a_payload_is_shown_as_text_and_shortened() -> None:
    """Bytes that are not UTF-8 are escaped; a long payload is cut."""
    assert formatting.payload(b"\xff{}") == "\\xff{}"
    assert len(formatting.payload(b"x" * 100_000)) == formatting.SHOWN_BYTES + 1


def test_records_are_counted_from_one() -> None:
    """As people do."""
    assert formatting.rejection(rejection(RANGE, records=(0, 4)))["records"] == "records 1, 5 of the array"
    assert formatting.rejection(rejection(RANGE))["records"] == ""
