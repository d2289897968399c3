"""The balance of records."""

from __future__ import annotations

import pytest

from gateway.model import Counts


@pytest.mark.parametrize(
    ("counts", "balanced"),
    [
        (Counts(), True),
        (Counts(received=5, accepted=4, rejected=1, stored=2, journaled=1, refused=1), True),
        (Counts(received=5, accepted=4, rejected=2, stored=4), False),
        (Counts(received=4, accepted=4, stored=3), False),
        (Counts(received=4, accepted=4, stored=3, journaled=2), False),
    ],
)
def test_balanced(counts: Counts, balanced: bool) -> None:
    """received = accepted + rejected, and accepted = stored + journaled + refused: both, or it does not balance."""
    assert counts.balanced is balanced
    assert counts.as_json()["balanced"] is balanced


def test_total() -> None:
    """The total of all startups is their sum, column by column; without startups it is zero."""
    a = Counts(received=5, accepted=4, rejected=1, stored=2, journaled=1, refused=1)
    b = Counts(received=2, rejected=2)
    assert Counts.total({"a": a, "b": b}) == Counts(7, 4, 3, 2, 1, 1)
    assert Counts.total({}) == Counts()


def test_as_json() -> None:
    """The ledger's JSON has every count by name."""
    assert Counts(received=1, rejected=1).as_json() == {
        "received": 1,
        "accepted": 0,
        "rejected": 1,
        "stored": 0,
        "journaled": 0,
        "refused": 0,
        "balanced": True,
    }
