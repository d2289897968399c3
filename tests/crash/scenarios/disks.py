"""The disk of the state: full, read-only, with errors, slow."""

from __future__ import annotations

import errno
from contextlib import suppress

from tests.crash.bed import STARTUPS, Bed
from tests.crash.readback import FAILED
from tests.crash.scenario import crash
from tests.crash.shape import BOTH, INFLUX, PLAIN, WORKERS
from tests.servers import eventually

MIB = 1 << 20


@crash("others fill the disk of the state for 5 s", shapes=BOTH, disk_mib=64)
async def disk_full(bed: Bed) -> None:
    bed.ballast(leave=0)
    await bed.lasts(5)
    bed.relieve()


@crash("others fill the disk of the state, and the gateway is killed meanwhile", disk_mib=64, exits=100)
async def disk_full_and_kill(bed: Bed) -> None:
    bed.ballast(leave=0)
    await bed.lasts(3)
    bed.keeper.kill()
    await bed.lasts(3)
    bed.relieve()


@crash(
    "the store is down until the journal has filled the disk, and comes back: nothing else makes room",
    shapes=(INFLUX,),
    disk_mib=64,
)
async def disk_filled_by_the_journal(bed: Bed) -> None:
    await bed.influxd.kill()
    bed.ballast(leave=12 * MIB)
    bed.fleet.publish(6000)
    await eventually(lambda: _acknowledges_nothing(bed), every=1.0, within=60, says="the disk is full")
    bed.fleet.publish(0)
    await bed.influxd.start()
    drains = True
    try:
        await eventually(lambda: _waits_for_nothing(bed), every=0.5, within=40)
    except AssertionError:
        drains = False
    bed.check("the journal empties without further room", drains)
    bed.relieve()


async def _waits_for_nothing(bed: Bed) -> bool:
    with suppress(*FAILED):
        return not sum([(await bed.reader.ledger(slug)).journaled for slug in STARTUPS])
    return False


async def _acknowledges_nothing(bed: Bed) -> bool:
    parts = (await bed.reader.ready()).get("parts", {})
    return bool(parts) and not (parts["disk"]["ok"] and parts["journal"]["ok"])


@crash("no file may grow beyond its present size for 5 s (RLIMIT_FSIZE)", shapes=BOTH)
async def file_size_limited(bed: Bed) -> None:
    largest = max(one.stat().st_size for one in bed.state.rglob("*") if one.is_file())
    before = await bed.limit("FSIZE", max(largest, len(bed.gateway.log) + MIB))
    await bed.lasts(5)
    await bed.unlimit("FSIZE", before)


@crash("every write and fsync of the state fails with EIO for 4 s", shapes=BOTH, preload=True, short=True)
async def io_errors_of_writes(bed: Bed) -> None:
    with bed.faults.on(write_errno=errno.EIO, sync_errno=errno.EIO):
        await bed.lasts(4)


@crash("every fsync of the state fails with EIO for 4 s", preload=True)
async def io_errors_of_syncs(bed: Bed) -> None:
    with bed.faults.on(sync_errno=errno.EIO):
        await bed.lasts(4)


@crash("every read of the state fails with EIO for 3 s", shapes=(PLAIN, WORKERS, INFLUX), preload=True)
async def io_errors_of_reads(bed: Bed) -> None:
    with bed.faults.on(read_errno=errno.EIO):
        await bed.lasts(3)


@crash("the state is read-only for 4 s (EROFS)", preload=True)
async def disk_read_only(bed: Bed) -> None:
    with bed.faults.on(write_errno=errno.EROFS):
        await bed.lasts(4)


@crash("every fsync takes 0.4 s longer", shapes=BOTH, preload=True)
async def slow_fsync(bed: Bed) -> None:
    with bed.faults.on(sync_delay_us=400_000):
        await bed.lasts(8)


@crash("every fsync takes 0.4 s longer, and the gateway is killed meanwhile", preload=True)
async def slow_fsync_and_kill(bed: Bed) -> None:
    with bed.faults.on(sync_delay_us=400_000):
        for _ in range(bed.some(3)):
            await bed.lasts(bed.chance.uniform(1, 3))
            bed.keeper.kill()
