"""The filters that the session at the broker may have, over restarts."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.errors import StateUnavailable
from gateway.state.subscription_file import SubscriptionFile


def test_unwanted_filters_of_an_earlier_run_are_dropped(tmp_path: Path) -> None:
    """The unwanted filters are all that were ever subscribed to, without those that are wanted now."""
    path = tmp_path / "subscribed.json"
    assert SubscriptionFile(path).change(["a/#", "b"]) == []
    assert SubscriptionFile(path).change(["$share/g/a/#"]) == ["a/#", "b"]
    again = SubscriptionFile(path)
    assert sorted(again.change(["a/#"])) == ["$share/g/a/#", "b"]
    assert sorted(again.change([])) == ["$share/g/a/#", "a/#", "b"]


@pytest.mark.parametrize("text", ["", "{}", "[1]", "[", "null"])
def test_a_broken_file_is_none(tmp_path: Path, text: str) -> None:
    """A broken file counts as empty, and is written anew."""
    path = tmp_path / "subscribed.json"
    path.write_text(text)
    assert SubscriptionFile(path).change(["a"]) == []
    assert SubscriptionFile(path).change([]) == ["a"]


def test_a_file_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    """The error names the file."""
    with pytest.raises(StateUnavailable, match=r"subscribed\.json"):
        SubscriptionFile(tmp_path / "none" / "subscribed.json").change(["a"])
