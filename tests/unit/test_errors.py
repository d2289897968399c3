"""What exceptions tell whoever catches them."""

from __future__ import annotations

from gateway.errors import ConfigError, Problem, StoreThrottled, StoreUnavailable, UnknownMeasurement


def test_delay_of_the_next_try() -> None:
    """A store that asks for a pause gets it, or the longer one that backoff says."""
    assert StoreUnavailable("down").delay(3) == 3
    assert StoreThrottled("slow", retry_after=10).delay(3) == 10
    assert StoreThrottled("slow", retry_after=10).delay(30) == 30


def test_unknown_measurement() -> None:
    """Whoever asks for a measurement that is not there is told which there are."""
    assert (
        str(UnknownMeasurement("air", ["climate", "soil"])) == "there is no measurement 'air'; there are: climate, soil"
    )
    assert str(UnknownMeasurement("air", [])) == "there is no measurement 'air'; there are: none yet"


def test_problems_as_text() -> None:
    """A problem reads `file:line: setting: expected ...; got ...`, without what it does not have."""
    whole = Problem("a.yaml", 3, "log.level", "info", "'loud'")
    bare = Problem("a.yaml", 0, "", "YAML", "a list")
    assert str(ConfigError([whole, bare])) == (
        "2 problems in the configuration\n"
        "a.yaml:3: log.level: expected info; got 'loud'\n"
        "a.yaml: expected YAML; got a list"
    )
