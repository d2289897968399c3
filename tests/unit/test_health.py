"""Health of the gateway: what makes it unready, and what is only one startup's problem."""

from __future__ import annotations

import pytest

from gateway.health import Health, Part, failing

NEEDED = (Part("broker"), Part("disk"), Part("journal"))


def health(broker: str = "", **sessions: str) -> Health:
    parts = (Part("broker", broker), *NEEDED[1:])
    return Health(parts, {}, sessions={slug: Part("session", problem) for slug, problem in sessions.items()})


@pytest.mark.parametrize(
    ("one", "problem"),
    [
        (health(), ""),
        (health(acme="", birch=""), ""),
        (health(acme="", birch="taken over"), ""),
        (health(acme="taken over", birch="taken over"), "no startup's session works: see sessions"),
        (health("away", acme="away", birch="away"), "away"),
        (health("away", acme="", birch=""), "away"),
    ],
)
def test_broker_fails_when_nobody_is_served(one: Health, problem: str) -> None:
    """The gateway is ready while any startup's session works, and the one that publishes."""
    assert one.is_ready is not bool(problem)
    assert {part.name: part.problem for part in one.needed} == {"broker": problem, "disk": "", "journal": ""}


def test_startups_with_problems_are_named() -> None:
    """The summary says how many there are, and names the first few with their problems."""
    stores = {slug: Part("store", "away") for slug in ("acme", "birch", "cedar", "dune", "elm")}
    one = Health(
        NEEDED, {**stores, "fir": Part("store")}, sessions={"acme": Part("session", "denied"), "fir": Part("")}
    )
    assert failing(stores) == "acme: away; birch: away; cedar: away; and 2 more"
    parts = one.summary()["parts"]
    assert isinstance(parts, dict)
    assert parts["store"]["problem"] == f"5 of 6 startups' readings wait in the journal ({failing(stores)})"
    assert parts["sessions"]["problem"] == "1 of 2 startups' messages wait at the broker (acme: denied)"
    assert one.is_ready
