"""`Lane`: what becomes of readings when their store refuses, hangs, lies or asks for a pause."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.config.models import DeadLetterSettings, DrainSettings, Settings
from gateway.errors import StoreRefused, StoreThrottled, StoreUnavailable
from gateway.model import Counts, Readings, Rejection
from gateway.state import dead_letters, ledger
from gateway.state.journal import Block, Journal
from gateway.state.worker_state import WorkerState
from gateway.stores.drain import Drain
from gateway.stores.sqlite import SqliteStore
from tests.builders import rejection
from tests.servers import eventually

SETTINGS = DrainSettings.model_validate({"interval": "1ms", "max_backoff": "20ms"})


class Scripted(SqliteStore):
    """A store that refuses what `refuses` says, raises what is in `raises` first, and keeps the rest in `lines`."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.refuses: Callable[[bytes], bool] = lambda _: False
        self.raises: list[Exception] = []
        self.at_once = 1 << 20
        self.parts: list[Sequence[bytes]] = []
        self.lines: set[bytes] = set()

    def bytes_at_once(self, _startup: str) -> int:
        return self.at_once

    async def write(self, _startup: str, lines: Sequence[bytes]) -> None:
        await asyncio.sleep(0)
        if self.raises:
            raise self.raises.pop(0)
        self.parts.append(lines)
        if any(self.refuses(line) for line in lines):
            raise StoreRefused("InfluxDB rejected the data: 422 field type conflict")
        self.lines.update(lines)


class Listening:
    """A listener that keeps what it is notified of."""

    def __init__(self) -> None:
        self.refused: list[Rejection] = []

    def accepted(self, _readings: Readings, /) -> None: ...

    def rejected(self, rejections: Sequence[Rejection], /) -> None:
        self.refused += rejections


class Bed:
    """A drain over a scripted store, and what it moves."""

    def __init__(self, drain: Drain, state: WorkerState, store: Scripted, listener: Listening) -> None:
        self.drain, self.state, self.store, self.listener = drain, state, store, listener

    async def accept(self, *lines: str, startup: str = "acme") -> None:
        """Put readings into the journal."""
        blocks = {startup: Block.of(lines)}
        await self.state.database.write(lambda connection: Journal.append(connection, blocks))
        self.state.journal.appended(blocks)

    async def counts(self, startup: str = "acme") -> Counts:
        return (await self.state.database.read(ledger.balance)).get(startup, Counts())

    async def settled(self, startup: str = "acme") -> Counts:
        """Wait until nothing waits for the store."""

        async def is_empty() -> bool:
            counts = await self.counts(startup)
            return counts.received > 0 and not counts.journaled

        await eventually(is_empty, says="nothing waits for the store")
        return await self.counts(startup)

    @property
    def is_stopped(self) -> bool:
        return self.drain.states["acme"].is_stopped

    async def kept(self) -> list[bytes]:
        """Return the payloads of the dead letters, the newest first."""
        page = await self.state.database.read(dead_letters.page)
        return [one.rejection.payload for one in page.letters]


@asynccontextmanager
async def bed(directory: Path, **bounds: Any) -> AsyncIterator[Bed]:
    settings = Settings(dead_letters=DeadLetterSettings.model_validate(bounds), drain=SETTINGS)
    state = WorkerState.of(directory, settings, {})
    store, listener = Scripted(directory / "store"), Listening()
    async with state.opened():
        drain = Drain(state, store, SETTINGS, listener)
        task = asyncio.create_task(drain.run(["acme", "birch"]))
        await eventually(lambda: "acme" in drain.states)
        yield Bed(drain, state, store, listener)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def reading(number: int, device: str = "th-1") -> str:
    return f"climate,device={device} t=1.0 {number}"


async def test_single_bad_points_are_refused(tmp_path: Path) -> None:
    """Of a batch with a few bad points, these become dead letters and everything else is stored."""
    async with bed(tmp_path) as a_bed:
        a_bed.store.refuses = lambda line: b"bad" in line
        await a_bed.accept(*(reading(at, "bad" if at % 20 == 0 else "good") for at in range(1000)))
        counts = await a_bed.settled()
        assert (counts.stored, counts.refused, counts.balanced) == (950, 50, True)
        assert len(a_bed.listener.refused) == 50
        assert not a_bed.drain.states["acme"].problem


async def test_many_bad_points_of_one_device_do_not_stop_the_lane(tmp_path: Path) -> None:
    """However many readings of a backlog are refused, the lane goes on while the store takes the newest."""
    async with bed(tmp_path) as a_bed:
        a_bed.store.refuses = lambda line: b"bad" in line
        await a_bed.accept(*(reading(at, "bad") for at in range(500)), *(reading(at, "good") for at in range(50)))
        counts = await a_bed.settled()
        assert (counts.stored, counts.refused, counts.balanced) == (50, 500, True)


async def test_store_that_refuses_everything_stops_its_lane(tmp_path: Path) -> None:
    """A lane whose store refuses all readings stops before they become dead letters, says so, leaves other lanes alone,
    and stores every one of them once the store takes them."""
    async with bed(tmp_path) as a_bed:
        a_bed.store.refuses = lambda line: b"birch" not in line
        await a_bed.accept(*(reading(at) for at in range(2000)))
        await eventually(lambda: a_bed.is_stopped, says="the lane has stopped")
        assert "field type conflict" in a_bed.drain.states["acme"].problem
        await a_bed.accept(reading(1, "birch"), startup="birch")
        assert (await a_bed.settled("birch")).stored == 1
        assert await a_bed.kept() == []
        assert a_bed.is_stopped
        a_bed.store.refuses = lambda _: False
        counts = await a_bed.settled()
        assert (counts.stored, counts.refused, counts.balanced) == (2000, 0, True)
        assert not a_bed.drain.states["acme"].problem


async def test_small_batches_that_are_refused_stop_the_lane(tmp_path: Path) -> None:
    """Readings that arrive one by one and are all refused stop the lane after about a hundred."""
    async with bed(tmp_path) as a_bed:
        a_bed.store.refuses = lambda _: True
        for at in range(150):
            await a_bed.accept(reading(at))
            await eventually(lambda: a_bed.is_stopped or not a_bed.state.journal.readings)
        assert a_bed.is_stopped
        counts = await a_bed.counts()
        assert 0 < counts.refused < 100
        assert counts.balanced


async def test_newer_readings_that_are_stored_let_the_lane_go_on(tmp_path: Path) -> None:
    """Once the store takes newer readings, what it still refuses of the older ones becomes dead letters."""
    async with bed(tmp_path) as a_bed:
        a_bed.store.refuses = lambda line: b"old" in line
        await a_bed.accept(*(reading(at, "old") for at in range(300)))
        await eventually(lambda: a_bed.is_stopped)
        await a_bed.accept(*(reading(at, "new") for at in range(30)))
        counts = await a_bed.settled()
        assert (counts.stored, counts.refused, counts.balanced) == (30, 300, True)


async def test_operator_releases_a_stopped_lane(tmp_path: Path) -> None:
    """A lane that an operator releases makes dead letters of what is refused, and stops again for later readings."""
    async with bed(tmp_path) as a_bed:
        a_bed.store.refuses = lambda _: True
        assert not a_bed.drain.release("acme")
        assert not a_bed.drain.release("nobody")
        await a_bed.accept(*(reading(at) for at in range(300)))
        await eventually(lambda: a_bed.is_stopped)
        assert a_bed.drain.release("acme")
        assert (await a_bed.settled()).refused == 300
        await a_bed.accept(*(reading(at) for at in range(300, 600)))
        await eventually(lambda: a_bed.is_stopped)


async def test_refused_readings_are_kept_apart(tmp_path: Path) -> None:
    """Rejections push out no reading that the store refused, whatever their number; nor the other way round."""
    async with bed(tmp_path, max_count=5) as a_bed:
        a_bed.store.refuses = lambda line: b"bad" in line
        first = [rejection(str(at).encode()) for at in range(5)]
        await a_bed.state.database.write(lambda connection: a_bed.state.keep(connection, first))
        await a_bed.accept(*(reading(at, "bad") for at in range(20)), *(reading(at) for at in range(30)))
        await a_bed.settled()
        assert len(await a_bed.kept()) == 25
        more = [rejection(str(at).encode()) for at in range(5, 10)]
        await a_bed.state.database.write(lambda connection: a_bed.state.keep(connection, more))
        kept = await a_bed.kept()
        refused = {reading(at, "bad").encode() for at in range(20)}
        assert set(kept) == refused | {b"9", b"8", b"7", b"6", b"5"}
        totals = (await a_bed.state.database.read(dead_letters.totals))["acme"]
        assert (totals.kept, totals.dropped) == (25, 5)


async def test_lane_waits_where_refused_readings_find_no_room(tmp_path: Path) -> None:
    """With no room for a further refused reading, the lane waits and says so; none is dropped. A replay makes room."""
    async with bed(tmp_path, max_size="4KiB") as a_bed:
        a_bed.store.refuses = lambda line: b"bad" in line
        sent = 0
        while not a_bed.drain.states["acme"].problem:
            await a_bed.accept(reading(sent, "bad"), *(reading(sent, f"good-{n}") for n in range(3)))
            sent += 1
            await eventually(lambda: any((a_bed.drain.states["acme"].problem, not a_bed.state.journal.readings)))
        assert "dead_letters.max_size" in a_bed.drain.states["acme"].problem
        counts = await a_bed.counts()
        assert (counts.refused, counts.journaled, counts.balanced) == (sent - 1, 4, True)
        assert len(await a_bed.kept()) == sent - 1
        oldest = (await a_bed.state.database.read(dead_letters.page)).letters[-1]
        await a_bed.state.database.write(lambda connection: dead_letters.delete(connection, oldest))
        counts = await a_bed.settled()
        assert (counts.refused, counts.balanced) == (sent, True)
        await eventually(lambda: not a_bed.drain.states["acme"].problem)


async def test_store_takes_less_at_once(tmp_path: Path) -> None:
    """No write has more than the store takes at once now, but for a single longer reading; all arrive."""
    async with bed(tmp_path) as a_bed:
        a_bed.store.at_once = 100
        long = reading(0, "x" * 200)
        await a_bed.accept(*(reading(at) for at in range(50)), long)
        assert (await a_bed.settled()).stored == 51
        sizes = [sum(len(line) + 1 for line in part) for part in a_bed.store.parts if part != [long.encode()]]
        assert max(sizes) <= 100


@pytest.mark.parametrize("seconds", [86_400.0, 1e300])
async def test_requested_pause_is_bounded(tmp_path: Path, seconds: float) -> None:
    """A store that requests a pause of a day is asked again after `drain.max_backoff`."""
    async with bed(tmp_path) as a_bed:
        a_bed.store.raises = [StoreThrottled("later", seconds)]
        await a_bed.accept(reading(1))
        assert (await a_bed.settled()).stored == 1


@pytest.mark.parametrize("error", [ZeroDivisionError("?"), RecursionError(), OverflowError("year 10000"), KeyError(1)])
async def test_unforeseen_failure_ends_no_lane(tmp_path: Path, error: Exception) -> None:
    """A write that fails as nobody foresaw is tried again, like one whose store is away."""
    async with bed(tmp_path) as a_bed:
        a_bed.store.raises = [error, error, error]
        await a_bed.accept(reading(1))
        assert (await a_bed.settled()).stored == 1


async def test_store_that_is_away_refuses_nothing(tmp_path: Path) -> None:
    """While the store is away readings wait, however many, and their lane does not count as stopped."""
    async with bed(tmp_path) as a_bed:
        a_bed.store.raises = [StoreUnavailable("away")] * 10_000
        await a_bed.accept(*(reading(at) for at in range(500)))
        await eventually(lambda: a_bed.drain.states["acme"].problem == "away")
        assert not a_bed.is_stopped
        assert (await a_bed.counts()).refused == 0
        a_bed.store.raises = []
        assert (await a_bed.settled()).stored == 500
