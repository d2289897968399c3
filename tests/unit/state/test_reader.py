"""The state databases of several workers, read as one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.config.models import DeadLetterSettings
from gateway.errors import StateUnavailable
from gateway.model import Counts, Rejection
from gateway.state import dead_letters, ledger
from gateway.state.database import FILE_NAME
from gateway.state.dead_letters import NEWEST, PAGE, DeadLetter, Page
from gateway.state.reader import StateReader
from gateway.state.workers import RETIRED, home, retiring, workers
from tests.builders import NOW, database


def keep(state_dir: Path, worker: int, *moments: int) -> None:
    """Make a worker's state: a dead letter of acme at each of these moments, and as many in the ledger."""
    asyncio.run(_keep(state_dir, worker, *moments))


async def _keep(state_dir: Path, worker: int, *moments: int) -> None:
    directory = home(state_dir, worker)
    rejections = [Rejection("acme", "d", "t", b"%d" % moment, NOW + moment, ()) for moment in moments]
    async with database(directory / FILE_NAME) as state:
        await state.write(lambda connection: dead_letters.insert(connection, rejections, DeadLetterSettings()))
        counts = {"acme": Counts(received=len(rejections), rejected=len(rejections))}
        await state.write(lambda connection: ledger.add(connection, counts))


def moments(dead_letters: list[DeadLetter]) -> list[int]:
    return [one.rejection.arrived_ns - NOW for one in dead_letters]


def test_one_process_has_its_own_ids(tmp_path: Path) -> None:
    """Without workers the ids are those of the one database."""
    keep(tmp_path, 0, 1, 2)
    state = StateReader(tmp_path)
    assert [one.id for one in state.dead_letters().letters] == [2, 1]
    assert state.place(2) == (0, 2)
    assert workers(tmp_path) == []


def test_ledgers_are_added_up(tmp_path: Path) -> None:
    """The balance and the totals cover all workers together."""
    keep(tmp_path, 0, 1, 2)
    keep(tmp_path, 3, 4)
    state = StateReader(tmp_path)
    assert state.balance() == {"acme": Counts(received=3, rejected=3)}
    assert state.totals()["acme"].kept == 3
    assert workers(tmp_path) == [3]


@pytest.mark.parametrize("limit", [1, 2, 3, 10])
def test_pages_over_all_workers(tmp_path: Path, limit: int) -> None:
    """From the newest to the oldest, none twice, none left out, also where two workers have the same moment."""
    keep(tmp_path, 0, 1, 5, 6, 9)
    keep(tmp_path, 1, 2, 5, 9)
    keep(tmp_path, 2, 3, 5)
    state, place, seen = StateReader(tmp_path), NEWEST, []
    while page := state.dead_letters("acme", before=place, limit=limit).letters:
        assert len(page) <= limit
        seen += page
        place = page[-1].place
    assert moments(seen) == [9, 9, 6, 5, 5, 5, 3, 2, 1]
    assert len({one.id for one in seen}) == 9
    assert state.dead_letters("nobody") == Page([], is_last=True)


def test_pages_of_workers_that_end_early(tmp_path: Path) -> None:
    """Where the page of one worker ends early, because its dead letters are large, none of the others' comes before
    those that follow there."""

    async def keep_large(worker: int) -> None:
        large = [Rejection("acme", "d", "t" * 65_000, b"x" * 2000, NOW + moment, ()) for moment in range(30)]
        async with database(home(tmp_path, worker) / FILE_NAME) as state:
            await state.write(lambda connection: dead_letters.insert(connection, large, DeadLetterSettings()))

    asyncio.run(keep_large(0))
    keep(tmp_path, 1, *range(30))
    state, place, seen = StateReader(tmp_path), NEWEST, []
    while not (page := state.dead_letters("acme", before=place, limit=1000)).is_last:
        assert sum(len(one.rejection.topic) for one in page.letters) < 1.2 * PAGE
        seen += page.letters
        place = page.letters[-1].place
    seen += page.letters
    assert moments(seen) == sorted([*range(30)] * 2, reverse=True)


def test_a_dead_letter_is_found_where_its_id_says(tmp_path: Path) -> None:
    """The id says which worker keeps it, and there it is; or it is gone."""
    keep(tmp_path, 0, 1)
    keep(tmp_path, 2, 7)
    state = StateReader(tmp_path)
    (newest, _) = state.dead_letters().letters
    assert (newest.id, state.place(newest.id)) == (1002, (2, 1))
    assert state.dead_letter(newest.id) == newest
    assert state.dead_letter(2002) is None
    assert state.dead_letter(1005) is None


def test_retiring_workers(tmp_path: Path) -> None:
    """Workers beyond the number that runs retire, until they have."""
    for worker in (0, 1, 2, 3):
        keep(tmp_path, worker)
    assert retiring(tmp_path, 2) == [2, 3]
    (home(tmp_path, 2) / RETIRED).touch()
    assert retiring(tmp_path, 2) == [3]
    assert retiring(tmp_path, 4) == []


def test_a_worker_that_retired_under_an_earlier_version_has_retired(tmp_path: Path) -> None:
    """The file's name on disk stays `left`: an update must not start those workers again, nor a step back lose one."""
    for worker in (0, 1):
        keep(tmp_path, worker)
    (home(tmp_path, 1) / "left").touch()
    assert retiring(tmp_path, 1) == []


def test_without_state(tmp_path: Path) -> None:
    """The error says how to start a gateway."""
    with pytest.raises(StateUnavailable, match="gateway run"):
        StateReader(tmp_path).balance()
