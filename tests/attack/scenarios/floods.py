"""Floods: a device that publishes far more than its quota."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

from tests.attack.bed import Bed
from tests.attack.scenario import attack

READING = b'{"t": 21.5}'
ARRAY = json.dumps([{"t": 21.5}] * 4600).encode()
"""60 KB, valid."""
LARGE = b"x" * 1_000_000
"""Just below what the broker lets through."""


@attack("60 KB arrays over the quota, 6,000 a second")
async def arrays_6000(bed: Bed) -> AsyncIterator[None]:
    async with bed.flood(ARRAY, rate=6_000):
        yield


@attack("60 KB arrays over the quota, at line rate from four devices")
async def arrays_line_rate(bed: Bed) -> AsyncIterator[None]:
    async with bed.flood(ARRAY, connections=4):
        yield


@attack("rejected messages of 10 bytes, 4,700 a second")
async def rejected_4700(bed: Bed) -> AsyncIterator[None]:
    async with bed.flood(b"0123456789", rate=4_700):
        yield


@attack("rejected messages of 10 bytes, at line rate from four devices")
async def rejected_line_rate(bed: Bed) -> AsyncIterator[None]:
    async with bed.flood(b"0123456789", connections=4):
        yield


@attack("rejected messages of 1 MB, at line rate from four devices")
async def rejected_1_mb(bed: Bed) -> AsyncIterator[None]:
    async with bed.flood(LARGE, connections=4):
        yield


@attack("100 KB to topics without a rule, at line rate from four devices")
async def unmatched_100_kb(bed: Bed) -> AsyncIterator[None]:
    async with bed.flood(b"x" * 100_000, rest="no/such/rule", connections=4):
        yield


@attack("valid readings over the quota, at line rate from four devices")
async def readings_line_rate(bed: Bed) -> AsyncIterator[None]:
    async with bed.flood(READING, connections=4):
        yield


@attack("valid readings with QoS 0, at line rate from four devices")
async def readings_qos_0(bed: Bed) -> AsyncIterator[None]:
    async with bed.flood(READING, qos=0, connections=4):
        yield


@attack("1 MB with QoS 0, at line rate from four devices")
async def large_qos_0(bed: Bed) -> AsyncIterator[None]:
    async with bed.flood(LARGE, qos=0, connections=4):
        yield
