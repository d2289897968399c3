"""The state directory: removed, damaged, used by a second gateway."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3

from tests.crash.bed import STARTUPS, Bed
from tests.crash.scenario import crash
from tests.crash.shape import INFLUX, PLAIN, WORKERS
from tests.running import GatewayProcess

LATEST = 12.0
"""Seconds for a gateway that should not run to give up."""


@crash("a clean-up job removes gateway.db while the gateway runs", shapes=(PLAIN, WORKERS, INFLUX), exits=3, short=True)
async def state_removed(bed: Bed) -> None:
    since = await _without_letters(bed)
    for one in bed.state.glob("gateway.db*"):
        one.unlink()
    await _gone(bed, since)


@crash("a clean-up job moves the state directory of a gateway that stores in InfluxDB", shapes=(INFLUX,), exits=3)
async def state_directory_moved(bed: Bed) -> None:
    since = await _without_letters(bed)
    bed.state.rename(bed.state.with_name("old"))
    await _gone(bed, since)


async def _without_letters(bed: Bed) -> int:
    """Publish no poison: the dead letters go with the file, and nobody can keep them. Return the length of the log."""
    await bed.fleet.pause()
    await bed.taken()
    bed.fleet.forget()
    bed.fleet.send_poison(whether=False)
    bed.fleet.publish()
    await bed.fleet.more(200)
    return len(bed.gateway.log)


async def _gone(bed: Bed, since: int) -> None:
    await bed.fleet.more(2000)
    await bed.lasts(8)
    bed.check("the gateway says that its state is gone", bed.complains(since))


@crash("a row of the intake is damaged while the gateway is down", exits=1)
async def journal_row_damaged(bed: Bed) -> None:
    await _stopped_and_empty(bed)
    with sqlite3.connect(bed.gateway.database) as connection:
        connection.execute("INSERT INTO intake (directory, data) VALUES ('{\"acme\": [1', x'00ff')")
    connection.close()
    since = len(bed.gateway.log)
    bed.keeper.start()
    await bed.connected()
    bed.check("the gateway says that a row is damaged", bed.complains(since))


async def _damaged(bed: Bed) -> None:
    """Start on a damaged state. Where the gateway does not start, the operator moves it away."""
    since, ends = len(bed.gateway.log), len(bed.keeper.ends)
    bed.keeper.start()
    await asyncio.sleep(LATEST)
    bed.check("the gateway says that its state is damaged", bed.complains(since))
    if len(bed.keeper.ends) > ends:
        for one in bed.state.glob("gateway.db*"):
            shutil.move(one, bed.directory / one.name)
    await bed.connected()


async def _stopped_and_empty(bed: Bed) -> None:
    """Stop the gateway when nothing waits in its journal, so that the damage costs only what it says."""
    await bed.fleet.pause()
    await bed.taken()
    await bed.keeper.stop()


@crash("gateway.db is empty (0 bytes) at the start", exits=100)
async def state_emptied(bed: Bed) -> None:
    await _stopped_and_empty(bed)
    bed.fleet.forget()  # its dead letters go with the file
    bed.gateway.database.write_bytes(b"")
    await _damaged(bed)


@crash("the middle of gateway.db is overwritten while the gateway is down", exits=100)
async def state_overwritten(bed: Bed) -> None:
    await _stopped_and_empty(bed)
    bed.fleet.forget()
    size = bed.gateway.database.stat().st_size
    with bed.gateway.database.open("r+b") as file:
        file.seek(100)
        file.write(bed.chance.randbytes(min(65_536, size)))
    await _damaged(bed)


@crash("a second gateway starts on the same state, with workers", shapes=(PLAIN, WORKERS), short=True)
async def second_gateway(bed: Bed) -> None:
    await _second(bed)
    await bed.fleet.pause()
    await bed.taken()
    received = sum([(await bed.reader.ledger(slug)).received for slug in STARTUPS])
    bed.check("no message is counted twice", received <= bed.fleet.count)


@crash("a second gateway starts on the same state after a clean-up job has removed its lock")
async def second_gateway_without_lock(bed: Bed) -> None:
    (bed.state / "lock").unlink()
    await _second(bed)


async def _second(bed: Bed) -> None:
    """Start a second gateway on the same state, with workers and without; the operator ends it after a while."""
    config = bed.directory / "second" / "config"
    shutil.copytree(bed.gateway.config, config)
    settings = config / "gateway.yaml"
    text = settings.read_text().replace(f":{bed.reader.port}", ":0").replace("../state", str(bed.state))
    settings.write_text(text)
    for options in (["--workers", "2"], []):
        second = GatewayProcess(config, bed.gateway.env)
        await second.start(*options)
        try:
            async with asyncio.timeout(LATEST):
                status = await second.ended()
        except TimeoutError:
            status = 0
        await second.end()
        bed.check(f"a second gateway {' '.join(options)} ends with an error", status != 0)
