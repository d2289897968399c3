"""History over HTTP: the rows of a range as JSON, CSV or NDJSON, streamed.

Whatever the range, one chunk of rows is in memory at a time, on its way from the store to the socket.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter
from fastapi import Query as Parameter
from pydantic import BaseModel, ConfigDict
from pydantic_core import to_json

from gateway import timestamps
from gateway.api.access import CurrentServices, PermittedStartup
from gateway.api.streaming import StreamingResponse, begun
from gateway.config import Startup
from gateway.config.notations import parse_duration
from gateway.errors import MeasurementUnknown, RequestRejected
from gateway.stores.contract import Query, Row, Store
from gateway.stores.tabular import columns, csv_lines, csv_table

Format = Literal["json", "csv", "ndjson"]
MEDIA_TYPES = {"json": "application/json", "csv": "text/csv; charset=utf-8", "ndjson": "application/x-ndjson"}
MAX_ROWS = 100_000
MAX_BYTES = 64 << 20
"""Bytes of an answer in JSON: clients read it as a whole."""
WITHIN = 3600.0
"""Seconds of an answer. A longer one is cut off: ask for a shorter range."""
SLICE = 250
"""Rows that are encoded at once."""
Encode = Callable[[Callable[[], bytes]], Awaitable[bytes]]
"""Runs what makes a piece of an answer, outside of the event loop."""
router = APIRouter()
_RELATIVE = re.compile(r"-(\S+)")


class HistoryParameters(BaseModel):
    """Parameters of `…/telemetry`. Times are RFC 3339, or a duration before now such as `-6h`."""

    model_config = ConfigDict(extra="forbid")

    measurement: str
    device: str | None = None
    start: Annotated[str, Parameter(description="RFC 3339, or a duration before now such as -6h")] = "-1h"
    stop: Annotated[str, Parameter(description="RFC 3339, or a duration before now; default: now")] = "-0s"
    every: Annotated[str | None, Parameter(description="downsample to windows of this length, such as 5m")] = None
    format: Format = "json"
    limit: Annotated[
        int | None,
        Parameter(
            ge=1,
            description=f"maximum number of rows; JSON holds {MAX_ROWS:,} at most, CSV and NDJSON have no maximum",
        ),
    ] = None

    def query(self) -> Query:
        """Return the range as the store takes it.

        Raises:
            RequestRejected: 422 if a time or duration is invalid, or the range is empty.
        """
        now_ns = time.time_ns()
        start_ns, stop_ns = _time("start", self.start, now_ns), _time("stop", self.stop, now_ns)
        if start_ns >= stop_ns:
            raise RequestRejected(422, f"start: expected a time before stop; got {self.start} and {self.stop}")
        every_ns = _window(self.every) if self.every else None
        return Query(self.measurement, start_ns, stop_ns, self.device, every_ns)


def _time(name: str, text: str, now_ns: int) -> int:
    # In a query string an unescaped + is a space: read it as the + of an offset.
    time_ns = timestamps.from_rfc3339(text.replace(" ", "+") if "T" in text else text)
    if time_ns is None and (match := _RELATIVE.fullmatch(text)):
        try:
            time_ns = now_ns - int(parse_duration(match[1]) * timestamps.NS)
        except ValueError:
            time_ns = None
    if time_ns is None or abs(time_ns) > timestamps.MAX_NS:
        raise RequestRejected(
            422,
            f"{name}: expected RFC 3339 such as 2026-11-23T08:00:00Z, or a duration before now "
            f"such as -6h; got {text!r}",
        )
    return time_ns


def _window(text: str) -> int:
    try:
        every_ns = int(parse_duration(text) * timestamps.NS)
    except ValueError:
        every_ns = 0
    if every_ns <= 0:
        raise RequestRejected(422, f"every: expected a duration above 0 such as 30s or 5m, at most 100y; got {text!r}")
    return every_ns


async def known_measurement(startup: Startup, store: Store, measurement: str) -> None:
    """Check that a rule or the store knows a measurement.

    Raises:
        MeasurementUnknown: neither does; the error lists those that exist.
    """
    if measurement not in startup.topics:
        stored = await store.measurements(startup.slug)
        if measurement not in stored:
            raise MeasurementUnknown(measurement, sorted({*startup.topics, *stored}))


async def stream(
    startup: Startup, store: Store, parameters: HistoryParameters, query: Query, encode: Encode
) -> AsyncGenerator[bytes]:
    """Return the body of the answer, piece by piece.

    Raises:
        StoreUnavailable: the store cannot be read; once the answer has begun, it could no longer be reported.
    """
    limit = parameters.limit
    if parameters.format == "json":
        limit = min(limit or MAX_ROWS, MAX_ROWS)
    # Asked for before the history: that holds a connection while it is read, and many would wait for one more each.
    names = await columns(startup, store, query.measurement) if parameters.format == "csv" else ()
    chunks = _sliced(await begun(_limited(store.history(startup.slug, query), limit)))
    match parameters.format:
        case "json":
            return _json(startup, query, limit or MAX_ROWS, chunks, encode)
        case "csv":
            return _csv(chunks, names, encode)
        case "ndjson":
            return _ndjson(chunks, encode)


async def _sliced(chunks: AsyncGenerator[list[Row]]) -> AsyncGenerator[list[Row]]:
    """Yield the rows in slices that are encoded quickly: others take turns."""
    async with aclosing(chunks):
        async for chunk in chunks:
            for start in range(0, len(chunk), SLICE):
                yield chunk[start : start + SLICE]
            await asyncio.sleep(0)  # a chunk may be there already: let others run, and see whether the client left


async def _limited(rows: AsyncGenerator[list[Row]], limit: int | None) -> AsyncGenerator[list[Row]]:
    left = limit
    async with aclosing(rows) as chunks:
        async for chunk in chunks:
            if left is None:
                yield chunk
                continue
            yield chunk[:left]
            left -= len(chunk)
            if left <= 0:
                return


async def _json(
    startup: Startup, query: Query, limit: int, chunks: AsyncGenerator[list[Row]], encode: Encode
) -> AsyncGenerator[bytes]:
    rule = startup.topics.get(query.measurement)
    units = {name: field.unit for name, field in rule.fields.items() if field.unit} if rule else {}
    head = {
        "startup": startup.slug,
        "measurement": query.measurement,
        "units": units,
        "start": timestamps.to_rfc3339(query.start_ns),
        "stop": timestamps.to_rfc3339(query.stop_ns),
    }
    yield to_json(head)[:-1] + b',"readings":['
    rows = size = 0
    async with aclosing(chunks):
        async for chunk in chunks:
            piece = await encode(partial(_rows, chunk, b","))
            yield (b"," if rows else b"") + piece
            rows += len(chunk)
            size += len(piece)
            if size >= MAX_BYTES:
                limit = rows
                break
    yield b'],"count":%d,"truncated":%s}\n' % (rows, b"true" if rows >= limit else b"false")


async def _ndjson(chunks: AsyncGenerator[list[Row]], encode: Encode) -> AsyncGenerator[bytes]:
    async with aclosing(chunks):
        async for chunk in chunks:
            yield await encode(partial(_rows, chunk, b"\n")) + b"\n"


async def _csv(chunks: AsyncGenerator[list[Row]], names: Sequence[str], encode: Encode) -> AsyncGenerator[bytes]:
    yield csv_lines([["time", *names]])
    async with aclosing(chunks):
        async for chunk in chunks:
            yield await encode(partial(csv_table, chunk, names))


def _rows(rows: list[Row], separator: bytes) -> bytes:
    return separator.join([to_json(_row(row)) for row in rows])


def _row(row: Row) -> dict[str, object]:
    return {"time": timestamps.to_rfc3339(row.time_ns), "tags": row.tags, "fields": row.fields}


@router.get("/startups/{startup}/telemetry", summary="History, downsampled if asked, as JSON, CSV or NDJSON")
async def telemetry(
    startup: PermittedStartup, services: CurrentServices, parameters: Annotated[HistoryParameters, Parameter()]
) -> StreamingResponse:
    query = parameters.query()
    await known_measurement(startup, services.store, query.measurement)
    encode = partial(services.limits.computing.run, startup.slug)
    body = await stream(startup, services.store, parameters, query, encode)
    return StreamingResponse(body, media_type=MEDIA_TYPES[parameters.format], within=WITHIN)
