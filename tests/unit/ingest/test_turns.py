"""Whose messages are processed next."""

from __future__ import annotations

from gateway.ingest.turns import Turns


def test_whoever_has_used_least_comes_first() -> None:
    """After a long turn a name comes behind those with short ones, until they have used as much."""
    turns = Turns()
    turns.charge("flood", 5.0)
    turns.charge("quiet", 0.1)
    assert turns.order(["flood", "quiet", "new"]) == ["new", "quiet", "flood"]
    for _ in range(49):
        assert turns.order(["flood", "quiet"])[0] == "quiet"
        turns.charge("quiet", 0.1)
    turns.charge("quiet", 0.2)
    assert turns.order(["flood", "quiet"]) == ["flood", "quiet"]


def test_time_that_was_not_used_is_not_saved_up() -> None:
    """Whoever was idle does not hold up the others afterwards: the next turns alternate."""
    turns = Turns()
    for _ in range(100):
        turns.charge("busy", 1.0)
    served = []
    for _ in range(6):
        name = turns.order(["busy", "idle"])[0]
        served.append(name)
        turns.charge(name, 1.0)
    assert 2 <= served.count("busy") <= 4
