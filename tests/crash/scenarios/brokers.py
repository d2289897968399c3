"""The broker: restarted, killed, silent, away; the connection to it cut, half-open, slow."""

from __future__ import annotations

import asyncio
import os
import signal

from tests.crash.bed import Bed
from tests.crash.scenario import crash
from tests.crash.shape import BOTH, EVERY, PLAIN, WORKERS, WORKERS_INFLUX

SAVED = 2.5
"""Seconds in which Mosquitto has saved its sessions: it does so every second."""


@crash("the broker restarts under load", shapes=(WORKERS, PLAIN, WORKERS_INFLUX), short=True)
async def broker_restarted(bed: Bed) -> None:
    for _ in range(bed.some(2)):
        await bed.fleet.more(500)
        await bed.broker.stop()
        await bed.lasts(bed.chance.uniform(0, 2))
        await bed.broker.start()
    await bed.fleet.more(500)


@crash("the broker is killed when it holds nothing, and devices publish before the gateway is back", shapes=BOTH)
async def broker_killed(bed: Bed) -> None:
    await bed.fleet.pause()
    await bed.taken()
    await asyncio.sleep(SAVED)  # what Mosquitto has not saved is gone with it, whatever the gateway does
    bed.wire.cut()
    await bed.broker.kill()
    await bed.broker.start()
    bed.fleet.publish()
    await bed.fleet.more(500)
    bed.wire.heal()


@crash("the broker is away for a while, the gateway is killed meanwhile", shapes=BOTH)
async def broker_away(bed: Bed) -> None:
    await bed.broker.stop()
    await bed.lasts(2)
    bed.keeper.kill()
    await bed.lasts(4)
    await bed.broker.start()
    await bed.fleet.more(500)


@crash("the broker is frozen for 12 s (SIGSTOP): connected, and silent", shapes=BOTH)
async def broker_silent(bed: Bed) -> None:
    os.kill(bed.broker.pid, signal.SIGSTOP)
    try:
        await bed.lasts(12)
    finally:
        os.kill(bed.broker.pid, signal.SIGCONT)


@crash("the connections to the broker are half-open: nothing arrives on them any more", shapes=EVERY)
async def broker_half_open(bed: Bed) -> None:
    before = bed.wire.connections
    bed.wire.swallow()
    await bed.lasts(15)
    bed.check("the gateway connects again by itself", bed.wire.connections > before)


@crash("the connections to the broker are cut, again and again", shapes=BOTH, short=True)
async def connection_cut(bed: Bed) -> None:
    for _ in range(bed.some(8)):
        await bed.fleet.more(bed.chance.randint(50, 500))
        bed.wire.cut()
        await bed.lasts(bed.chance.uniform(0, 1))
        bed.wire.heal()


@crash("the network to the broker stalls for 4 s, then brings everything late", shapes=BOTH)
async def network_stalls(bed: Bed) -> None:
    bed.wire.stall()
    await bed.lasts(4)
    bed.wire.heal()
    await bed.fleet.more(300)


@crash("the network to the broker takes 60 KB a second for a while", shapes=(PLAIN,))
async def network_slow(bed: Bed) -> None:
    bed.wire.rate = 60_000
    await bed.lasts(6)
    bed.wire.rate = None


@crash(
    "the broker restarts while the gateway is down, and devices publish before it is back",
    shapes=(WORKERS, WORKERS_INFLUX),
)
async def broker_restarted_alone(bed: Bed) -> None:
    await bed.keeper.stop(signal.SIGKILL)
    await bed.broker.stop()
    await bed.broker.start()
    await bed.fleet.more(800)
    bed.keeper.start()
    await bed.connected()
