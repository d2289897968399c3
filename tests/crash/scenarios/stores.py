"""The store: down, hanging, slow, lying, with answers that are lost, with readings that it refuses."""

from __future__ import annotations

import asyncio

from tests.crash.bed import Bed
from tests.crash.scenario import crash
from tests.crash.shape import INFLUX, OLD_INFLUX, STORES, WORKERS_INFLUX


@crash("InfluxDB is killed under load and comes back", shapes=(*STORES, OLD_INFLUX), short=True)
async def store_down(bed: Bed) -> None:
    await bed.influxd.kill()
    await bed.lasts(6)
    await bed.influxd.start()


@crash("InfluxDB is down, and the gateway is killed meanwhile", shapes=STORES)
async def store_down_and_kill(bed: Bed) -> None:
    await bed.influxd.kill()
    for _ in range(bed.some(3)):
        await bed.lasts(2)
        bed.keeper.kill()
    await bed.lasts(3)
    await bed.influxd.start()


@crash("InfluxDB takes writes and answers none of them for 8 s", shapes=STORES)
async def store_hangs(bed: Bed) -> None:
    with bed.front.hang("acme"), bed.front.hang("voltwise"):
        await bed.lasts(8)


@crash("InfluxDB has written, and its answer is lost", shapes=(INFLUX,))
async def store_answers_lost(bed: Bed) -> None:
    bed.front.lose_next_answers(bed.some(15))
    await bed.fleet.more(1500)


@crash("the network to InfluxDB takes 50 KB a second: a large batch takes longer than the time-out", shapes=(INFLUX,))
async def store_slow(bed: Bed) -> None:
    await bed.influxd.kill()
    await bed.lasts(8)  # so that batches are large
    await bed.influxd.start()
    bed.store_wire.rate = 50_000
    before = bed.front.counts["acme"].lines
    await bed.lasts(25)
    bed.check("readings arrive over the slow link", bed.front.counts["acme"].lines > before)


def _lying(status: int, about: str) -> None:
    @crash(about, name=f"store-lies-{status}", shapes=(INFLUX,), short=status == 400)
    async def lie(bed: Bed) -> None:
        bed.front.lie = status
        await bed.lasts(8)
        bed.check("the gateway asked while it was lied to", bed.front.lied > 0)
        problem = (await bed.reader.ready()).get("parts", {}).get("store", {})
        bed.check("/readyz does not call the store ok", not problem.get("ok", False))


_lying(400, "a proxy answers every write with 400 and a page in HTML")
_lying(413, "a proxy answers every write with 413 and a page in HTML")
_lying(200, "a proxy answers every write with 200 and a page in HTML, and nothing is written")
_lying(302, "a proxy answers every write with 302 and a page in HTML")
_lying(422, "a proxy answers every write with 422 and a page in HTML")


@crash("InfluxDB says once: come back in a day", shapes=(INFLUX, WORKERS_INFLUX), short=True)
async def store_retry_after_a_day(bed: Bed) -> None:
    bed.front.answer_next(4, 503, retry_after=86_400)
    await bed.lasts(3)


@crash("InfluxDB says once: come back in 10^18 seconds", shapes=(INFLUX,))
async def store_retry_after_for_ever(bed: Bed) -> None:
    bed.front.answer_next(4, 429, retry_after=10**18)
    await bed.lasts(3)


@crash("InfluxDB answers 500, 503 and 429 in turns for a while", shapes=STORES)
async def store_overloaded(bed: Bed) -> None:
    for _ in range(bed.some(20)):
        bed.front.answer_next(1, bed.chance.choice((429, 500, 503)))
        await asyncio.sleep(bed.chance.uniform(0, 0.3))
