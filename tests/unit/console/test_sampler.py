"""Rates from the ledger."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gateway.console.sampler import EVERY, Sample, Sampler
from gateway.model import Counts
from gateway.state import ledger
from gateway.state.database import FILE_NAME, Database
from gateway.state.reader import StateReader
from tests.servers import eventually


def sampler(*received: int, kept: int = 450) -> Sampler:
    one = Sampler(StateReader(Path("unused")), kept)
    for number, count in enumerate(received, start=1):
        one.add(Sample(number * EVERY, {"acme": Counts(received=count, accepted=count)}))
    return one


def test_a_rate_is_over_ten_seconds() -> None:
    """Older samples do not count."""
    one = sampler(0, 1000, 1020, 1040, 1060, 1080, 1100)
    assert one.rates("acme").received == 10
    assert one.rates("acme").accepted == 10
    assert one.rates("acme").rejected == 0


def test_rates_are_zero_without_samples() -> None:
    """Nothing is known yet, and nobody of that name."""
    assert sampler().rates("acme").received == 0
    assert sampler(10).rates("acme").received == 0
    assert sampler(10, 20).rates("other").received == 0
    assert sampler().newest.counts("acme") == Counts()


def test_history_returns_samples_after_a_moment() -> None:
    """Each sample after a moment, as time and rate; the first ones are too few for a rate."""
    one = sampler(*range(0, 160, 20))
    assert one.history("acme", 0) == [(6 * EVERY, 10), (7 * EVERY, 10), (8 * EVERY, 10)]
    assert one.history("acme", 7 * EVERY) == [(8 * EVERY, 10)]
    assert one.history("acme", 8 * EVERY) == []


def test_samples_are_bounded() -> None:
    """A gateway that runs for a year keeps 15 minutes."""
    assert len(sampler(*range(100), kept=10).samples) == 10


async def test_the_ledger_is_sampled(tmp_path: Path) -> None:
    """From the gateway's own databases, until it is cancelled."""
    database = Database(tmp_path / FILE_NAME)
    await database.open()
    try:
        await database.write(lambda connection: ledger.add(connection, {"acme": Counts(received=3, accepted=3)}))
        one = Sampler(StateReader(tmp_path))
        task = asyncio.create_task(one.run())
        await eventually(lambda: one.newest.counts("acme").received == 3)
        task.cancel()
        await asyncio.wait((task,))
    finally:
        await database.close()
