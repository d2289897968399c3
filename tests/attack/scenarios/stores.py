"""Stores: a bucket that hangs or is away, a journal that is full."""

from __future__ import annotations

from collections.abc import AsyncIterator

from tests.attack.bed import Bed
from tests.attack.layout import ATTACKER, Layout
from tests.attack.scenario import attack

READING = b'{"t": 21.5}'
TEN_BUCKETS = Layout(
    store="influxdb",
    others=8,
    quota={"messages": "20000/s", "burst": 500_000},
    settings={"journal": {"max_readings": 20_000}},
)
"""With a journal that is full after two seconds of the third attack, and not with the first two."""


@attack("one bucket of ten hangs", layout=TEN_BUCKETS, measure="stored")
async def hanging_bucket(bed: Bed) -> AsyncIterator[None]:
    with bed.influx.hang(ATTACKER):
        async with bed.flood(READING, rate=2_000):
            yield


@attack("one bucket of ten is away", layout=TEN_BUCKETS, measure="stored")
async def absent_bucket(bed: Bed) -> AsyncIterator[None]:
    bed.influx.answer_next(1_000_000, 503, bucket=ATTACKER)
    async with bed.flood(READING, rate=2_000):
        yield


@attack("one bucket of ten hangs, and the journal is full of its readings", layout=TEN_BUCKETS, measure="stored")
async def full_journal(bed: Bed) -> AsyncIterator[None]:
    with bed.influx.hang(ATTACKER):
        async with bed.flood(READING, rate=10_000):
            yield
