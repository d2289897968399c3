"""Topics, tags and names: what is kept for each of them."""

from __future__ import annotations

from collections.abc import AsyncIterator

from tests.attack.bed import Bed
from tests.attack.layout import VICTIM
from tests.attack.scenario import attack

MIB = 1 << 20
DATABASE_MIB = 128
"""Size that gateway.db may have with its write-ahead log: the dead letters of one startup have 64 MiB."""
LONG = "x" * 65_000
READING = b'{"t": 21.5}'


def database_mib(bed: Bed) -> float:
    """Return the size of the state database, its write-ahead log included."""
    return sum(one.stat().st_size for one in bed.gateway.database.parent.glob("gateway.db*")) / MIB


@attack("1,000 retained messages of 1 MB, then a restart of the broker; the attacker idle", restarts=True)
async def retained_messages(bed: Bed) -> AsyncIterator[None]:
    def topic(number: int) -> str:
        return bed.topic(rest=f"{number:05}")

    most = bed.scale.of(1000)
    await bed.publish(b"x" * 1_000_000, topic=topic, retained=True, most=most)
    await bed.broker.stop()
    await bed.broker.start()
    yield


@attack("10,000 messages of one byte on topics of 65 KB")
async def long_topics(bed: Bed) -> AsyncIterator[None]:
    async with bed.flood(b"x", rest=LONG, most=bed.scale.of(10_000)):
        yield
    size = database_mib(bed)
    bed.check(f"gateway.db has at most {DATABASE_MIB} MiB (it has {size:,.0f})", size <= DATABASE_MIB)


@attack("a tag with a new value in each message, at line rate")
async def tag_explosion(bed: Bed) -> AsyncIterator[None]:
    def payload(number: int) -> bytes:
        return b'{"t": 21.5, "b": "batch-%08d"}' % number

    async with bed.flood(payload):
        yield


@attack("a new device name in each message, at line rate")
async def invented_devices(bed: Bed) -> AsyncIterator[None]:
    def topic(number: int) -> str:
        return bed.topic(f"invented-{number:08}")

    async with bed.flood(READING, topic=topic, anywhere=True):
        yield


@attack("readings of startups that do not exist, at line rate")
async def unknown_startups(bed: Bed) -> AsyncIterator[None]:
    def topic(number: int) -> str:
        return f"testbed/nobody-{number:06}/d/climate"

    async with bed.flood(READING, topic=topic, anywhere=True):
        yield


@attack("readings in the victim's name, which the broker denies")
async def denied_topics(bed: Bed) -> AsyncIterator[None]:
    async with bed.flood(READING, topic=f"testbed/{VICTIM}/d-1/climate"):
        yield
