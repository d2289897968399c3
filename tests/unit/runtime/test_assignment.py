"""Which worker serves which startups."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import Startup
from gateway.errors import StateUnavailable
from gateway.runtime.assignment import AssignmentFile, assign
from tests.builders import startup


def startups(*slugs: str, messages: str = "100/s") -> list[Startup]:
    return [startup(slug, quota={"messages": messages}) for slug in slugs]


def test_startups_are_spread_by_their_quotas() -> None:
    """The sums of the quotas are about equal: a large startup counts as several small ones."""
    several = [*startups("big", messages="300/s"), *startups("aa", "bb", "cc", "dd")]
    assigned = assign(several, 2, {})
    loads = [sum(one.quota.messages for one in several if assigned[one.slug] == worker) for worker in (0, 1)]
    assert sorted(loads) == [300, 400]


def test_startups_stay_with_their_worker() -> None:
    """A new startup moves no other; a removed one is forgotten; those of a worker that has gone are assigned anew."""
    before = assign(startups("aa", "bb", "cc"), 2, {})
    after = assign(startups("aa", "bb", "cc", "dd"), 2, before)
    assert {slug: after[slug] for slug in before} == before
    assert assign(startups("aa", "bb"), 2, after).keys() == {"aa", "bb"}
    assert set(assign(startups("aa", "bb", "cc"), 1, before).values()) == {0}


@pytest.mark.parametrize("text", ["", "[]", '{"aa": "1", "bb": -1, "cc": true}', "\x00"])
def test_a_broken_file_assigns_nothing(tmp_path: Path, text: str) -> None:
    """A broken file counts as empty, and is written anew."""
    path = tmp_path / "assignment.json"
    path.write_text(text)
    one = AssignmentFile(path)
    assert one.read() == {}
    one.write({"aa": 1})
    assert one.read() == {"aa": 1}


def test_a_file_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    """The error names the file."""
    with pytest.raises(StateUnavailable, match=r"assignment\.json"):
        AssignmentFile(tmp_path / "none" / "assignment.json").write({})
