"""Loads: floods by another startup, huge messages, many listeners, idle connections, few descriptors, little memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bench import packets
from tests.crash.bed import Bed
from tests.crash.fleet import VERSION
from tests.crash.scenario import crash
from tests.crash.shape import BOTH, PLAIN, WORKERS
from tests.running import OPERATOR
from tests.servers.processes import LOOPBACK

MIB = 1 << 20
NOISY = "testbed/nobody/d0/climate"
"""Topic of no startup."""


@asynccontextmanager
async def flood(bed: Bed, payload: bytes) -> AsyncIterator[None]:
    """Publish on a topic of no startup with QoS 0, as fast as the broker reads, until the block ends."""
    block = packets.publish(NOISY, payload, 0, 0, VERSION) * max(1, 65_536 // len(payload))
    _, writer = await asyncio.open_connection(LOOPBACK, bed.broker.port)

    async def pour() -> None:
        writer.write(packets.connect("noisy", VERSION))
        while True:
            writer.write(block)
            await writer.drain()
            await asyncio.sleep(0.01)

    task = asyncio.create_task(pour())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait((task,))
        writer.transport.abort()


@crash("a flood on a topic of no startup, and the gateway is killed meanwhile", shapes=BOTH)
async def flood_of_nobody(bed: Bed) -> None:
    async with flood(bed, b'{"t": 21.5}'):
        await bed.lasts(4)
        bed.keeper.kill()
        await bed.lasts(4)


@crash("poison only, ten times as much of it as usual", shapes=BOTH)
async def poison_of_300_kb(bed: Bed) -> None:
    bed.fleet.publish(300)
    bed.fleet.pad(300_000)
    await bed.lasts(4)
    bed.keeper.kill()
    await bed.lasts(2)
    bed.fleet.pad(0)


@crash("messages of 64 MiB on a topic of no startup, under a limit of memory", shapes=BOTH, exits=1)
async def huge_messages(bed: Bed) -> None:
    before = await bed.limit("AS", max([_address_space(pid) for pid in await bed.pids()]) + 400 * MIB)
    _, writer = await asyncio.open_connection(LOOPBACK, bed.broker.port)
    writer.write(packets.connect("huge", VERSION))
    for _ in range(bed.some(4)):
        writer.write(packets.publish(NOISY, bytes(64 * MIB), 1, 1, VERSION))
        await writer.drain()
        await bed.fleet.more(100)
    await bed.lasts(3)
    writer.transport.abort()
    await bed.unlimit("AS", before)


@crash("the gateway may have 64 MiB more memory than it has, with messages of 300 KB", exits=3)
async def little_memory(bed: Bed) -> None:
    before = await bed.limit("AS", _address_space(bed.gateway.pid) + 64 * MIB)
    bed.fleet.publish(400)
    bed.fleet.pad(300_000)
    await bed.lasts(5)
    bed.fleet.pad(0)
    await bed.unlimit("AS", before)


def _address_space(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * 4096


@crash("100 listeners of the live feed, of whom half read nothing", shapes=(PLAIN, WORKERS))
async def many_listeners(bed: Bed) -> None:
    request = f"GET /v1/startups/acme/live HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {OPERATOR}\r\n\r\n".encode()
    async with idle_connections(bed, bed.some(100), request, readers=bed.some(50)):
        await bed.fleet.more(3000)


@crash("1,200 connections over HTTP that ask nothing", shapes=(PLAIN, WORKERS))
async def idle_http(bed: Bed) -> None:
    async with idle_connections(bed, bed.some(1200)):
        await bed.fleet.more(2000)
        await bed.lasts(2)


@crash("the gateway has no file descriptors left for 5 s, while the broker cuts its connections", shapes=BOTH)
async def few_descriptors(bed: Bed) -> None:
    opened = max(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in await bed.pids())
    before = await bed.limit("NOFILE", opened)
    async with idle_connections(bed, 50):
        bed.wire.cut()
        bed.wire.heal()
        startup = bed.gateway.config / "startups" / "acme.yaml"
        startup.write_text(startup.read_text() + "\n# touched\n")
        await bed.lasts(5)
        await bed.unlimit("NOFILE", before)


@asynccontextmanager
async def idle_connections(bed: Bed, count: int, request: bytes = b"", readers: int = 0) -> AsyncIterator[None]:
    """Keep connections to the gateway open; the first `readers` of them read what comes."""
    opened = []
    tasks = []
    for number in range(count):
        try:
            reader, writer = await asyncio.open_connection(LOOPBACK, bed.reader.port)
        except OSError:
            break
        writer.write(request)
        opened.append(writer)
        if number < readers:
            tasks.append(asyncio.create_task(_drain(reader)))
        else:
            reader._transport.pause_reading()  # type: ignore[attr-defined]  # a client that never reads
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for writer in opened:
            writer.transport.abort()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _drain(reader: asyncio.StreamReader) -> None:
    while await reader.read(65536):
        pass
