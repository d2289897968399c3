"""Clocks: ahead at the start, set forward and back while the gateway runs."""

from __future__ import annotations

from tests.crash.bed import Bed
from tests.crash.scenario import crash
from tests.crash.shape import PLAIN, WORKERS

DAY = 86_400


@crash(
    "the gateway starts while the clock is a year ahead, which is then set right",
    preload=True,
    shapes=(PLAIN, WORKERS),
    short=True,
)
async def clock_ahead_at_the_start(bed: Bed) -> None:
    await bed.fleet.pause()
    await bed.taken()
    await bed.keeper.stop()
    with bed.faults.on(clock_s=365 * DAY):
        bed.keeper.start()
        await bed.connected()
        await bed.lasts(5)
        await bed.keeper.stop()
    bed.keeper.start()
    await bed.connected()


@crash("the clock is set back by half an hour under load", preload=True)
async def clock_set_back(bed: Bed) -> None:
    with bed.faults.on(clock_s=-1800):
        await bed.lasts(5)


@crash("the clock is set forward by a week under load", preload=True)
async def clock_set_forward(bed: Bed) -> None:
    with bed.faults.on(clock_s=7 * DAY):
        await bed.lasts(5)


@crash("the clock jumps back and forth by up to 90 s under load, and the gateway is killed meanwhile", preload=True)
async def clock_jumps(bed: Bed) -> None:
    for number in range(bed.some(12)):
        bed.faults.set(clock_s=bed.chance.randint(-90, 90))
        await bed.lasts(0.8)
        if number % 4 == 3:
            bed.keeper.kill()
