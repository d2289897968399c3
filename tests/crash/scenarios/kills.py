"""Kills: kill -9 at random moments, and at the writes and fsyncs of the state; SIGTERM under load."""

from __future__ import annotations

from tests.crash.bed import Bed
from tests.crash.scenario import crash
from tests.crash.shape import EVERY, PLAIN, WORKERS
from tests.servers import eventually


@crash("kill -9 at random moments", shapes=EVERY, short=True)
async def kill_at_random(bed: Bed) -> None:
    for _ in range(bed.some(6)):
        await bed.fleet.more(bed.chance.randint(100, 900))
        bed.keeper.kill()
        await bed.lasts(bed.chance.uniform(0, 2))


@crash("kill -9 again while it starts after a kill", shapes=(PLAIN, WORKERS))
async def kill_at_the_start(bed: Bed) -> None:
    for _ in range(bed.some(8)):
        bed.keeper.kill()
        await bed.lasts(bed.chance.uniform(0.4, 1.5))


@crash("kill -9 in the midst of a write to the state: half of it is on disk", preload=True, short=True)
async def kill_at_a_write(bed: Bed) -> None:
    for _ in range(bed.some(5)):
        await _killed(bed, "kill_write", bed.chance.randint(1, 400))


@crash("kill -9 before an fsync of the state", preload=True)
async def kill_at_a_sync(bed: Bed) -> None:
    for _ in range(bed.some(5)):
        await _killed(bed, "kill_sync", bed.chance.randint(1, 60))


async def _killed(bed: Bed, switch: str, count: int) -> None:
    ends = len(bed.keeper.ends)
    bed.faults.set(**{switch: count})
    await eventually(lambda: len(bed.keeper.ends) > ends, says="it reaches that write")
    await bed.connected()


@crash("kill -9 of a worker at random moments", shapes=(WORKERS,))
async def kill_workers(bed: Bed) -> None:
    for number in range(bed.some(6)):
        await bed.fleet.more(bed.chance.randint(100, 600))
        await bed.gateway.kill_worker(number % 2)


@crash("SIGTERM at random moments, and a start after each", shapes=EVERY)
async def stop_at_random(bed: Bed) -> None:
    for _ in range(bed.some(3)):
        await bed.fleet.more(bed.chance.randint(100, 900))
        bed.check("SIGTERM under load ends it with status 0", await bed.keeper.stop() == 0)
        bed.keeper.start()
        await bed.connected()
