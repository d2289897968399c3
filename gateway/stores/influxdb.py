"""InfluxDB 2 (and what speaks its API): a bucket for each startup.

Writes are line protocol to `/api/v2/write`, as it is in the journal. Queries are InfluxQL to `/query`, where every
bucket is a database of the same name; answers are read as they arrive.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import chain
from typing import TypeVar

from gateway.computing import Computing
from gateway.config.models import InfluxDB
from gateway.errors import StoreUnavailable, StoreUnreadable
from gateway.model import Reading
from gateway.stores import influxql
from gateway.stores.contract import CHUNK_BYTES, Columns, Query, Row, texts
from gateway.stores.influxdb_server import WRITES_AT_ONCE, InfluxDBServer
from gateway.stores.pace import cut

CHUNK = 500
"""Rows of one document of an answer. A chunk has at least as many, except the last."""

DOCUMENT_FIELDS = 5_000
"""Values in one document: a thread that decodes it holds the interpreter until it is done."""
TEXT_ROWS = 50
"""Rows of one document where there are strings."""
SMALL = 16 << 10
"""Bytes of documents that are decoded in the event loop: a thread would take longer."""
DECODED_AT_ONCE = 64 << 10
"""Bytes of documents that are decoded one after the other, or one document."""
NAMES = 1_000_000
"""Measurements, tags or fields of one startup: they are held together."""

T = TypeVar("T")


class InfluxDBStore:
    """Readings in InfluxDB. A `stores.contract.Store`; `token`, `renew` and `name` are those of `InfluxDBServer`."""

    writes_at_once = WRITES_AT_ONCE

    def __init__(
        self,
        settings: InfluxDB,
        token: str,
        renew: Callable[[], str] | None = None,
        name: str | None = None,
        computing: Computing | None = None,
    ) -> None:
        self._server = InfluxDBServer(settings, token, renew, name)
        self._bucket_name = settings.bucket
        self._computing = computing or Computing()

    async def open(self) -> None:
        """Build the client; nothing is sent yet."""
        self._server.open()

    async def close(self) -> None:
        """Close the connections."""
        await self._server.close()

    async def write(self, startup: str, lines: Sequence[bytes]) -> None:
        """See `Store.write`."""
        bucket = self._bucket(startup)
        for several in cut(lines, self._server.bytes_at_once(bucket)):
            await self._server.write(bucket, several)

    def bytes_at_once(self, startup: str) -> int:
        """See `Store.bytes_at_once`."""
        return self._server.bytes_at_once(self._bucket(startup))

    async def measurements(self, startup: str) -> list[str]:
        """See `Store.measurements`."""
        return await self._answer(startup, "SHOW MEASUREMENTS", influxql.names)

    async def check_readable(self, startup: str) -> None:
        """See `Store.check_readable`. A token without the right to a bucket finds no measurements there, and gets no
        error: only a SELECT shows the difference."""
        bucket = self._bucket(startup)
        async with self._server.query(bucket, influxql.PROBE, CHUNK) as documents:
            answer = b"".join([document async for several in documents for document in several])
        if influxql.NOT_FOUND.encode() in answer:
            raise StoreUnreadable(
                f"InfluxDB shows no bucket {bucket!r} to the gateway's token: it does not exist, or the token may not "
                "read it"
            )

    async def columns(self, startup: str, measurement: str) -> Columns:
        """See `Store.columns`."""
        tags = await self._answer(startup, influxql.tag_keys(measurement), influxql.names)
        fields = await self._answer(startup, influxql.field_keys(measurement), influxql.field_types)
        return Columns(tuple(tags), tuple(sorted(fields.get(measurement, {}))))

    async def history(self, startup: str, query: Query) -> AsyncGenerator[list[Row]]:
        """See `Store.history`."""
        found = await self._answer(startup, influxql.field_keys(query.measurement), influxql.field_types)
        types = found.get(query.measurement)
        if types is None:
            return
        statement = influxql.history(query, types)
        if query.every_ns is not None:
            types = influxql.downsampled(types)
        chunk: list[Row] = []
        size = 0
        async with self._found(startup, statement, _document_rows(types), partial(_rows, types)) as answer:
            async for several in answer:
                for rows, texts_in_them in several:
                    chunk += rows
                    size += texts_in_them
                if len(chunk) >= CHUNK or size >= CHUNK_BYTES:
                    yield chunk
                    chunk, size = [], 0
        if chunk:
            yield chunk

    async def expire(self, startup: str, before_ns: int) -> None:
        """Do nothing: each bucket has a retention of its own. See `Store.expire`."""

    async def latest(self, startup: str) -> AsyncGenerator[list[Reading]]:
        """See `Store.latest`."""
        types = await self._answer(startup, "SHOW FIELD KEYS", influxql.field_types)
        if not types:
            return

        def readings(document: bytes) -> list[Reading]:
            return [
                row.reading(startup, series.measurement)
                for series in influxql.answered(document)
                for row in influxql.rows(series, types[series.measurement])
            ]

        async with self._found(startup, influxql.latest(sorted(types)), CHUNK, readings) as answer:
            async for several in answer:
                yield list(chain.from_iterable(several))

    async def _answer(self, startup: str, statement: str, read: Callable[[list[influxql.Series]], T]) -> T:
        async with self._found(startup, statement, CHUNK, influxql.answered) as answer:
            series: list[influxql.Series] = []
            rows = 0
            async for several in answer:
                for found in several:
                    series += found
                    rows += sum(len(one.values) for one in found)
                if rows > NAMES:
                    raise StoreUnavailable(f"this is not an InfluxDB response: {statement} finds more than {NAMES:,}")
        return influxql.explained(read, series)

    @asynccontextmanager
    async def _found(
        self, startup: str, statement: str, document_rows: int, decode: Callable[[bytes], T]
    ) -> AsyncIterator[AsyncIterator[list[T]]]:
        """Yield what the documents of an answer hold, as they arrive; it is read inside the block. Large documents are
        decoded outside of the event loop."""

        def decode_all(documents: list[bytes]) -> list[T]:
            return [influxql.explained(decode, document) for document in documents]

        async def decoded(documents: list[bytes]) -> list[T]:
            if sum(map(len, documents)) < SMALL:
                return decode_all(documents)
            return await self._computing.run(startup, lambda: decode_all(documents))

        async with self._server.query(self._bucket(startup), statement, document_rows) as arriving:
            yield (await decoded(some) async for documents in arriving for some in _groups(documents))

    def _bucket(self, startup: str) -> str:
        return self._bucket_name.replace("{startup}", startup)


def _rows(types: Mapping[str, str], document: bytes) -> tuple[list[Row], int]:
    """Return the rows of a document, and the length of their strings."""
    found = [row for series in influxql.answered(document) for row in influxql.rows(series, types)]
    return found, sum(texts(row.fields.values()) for row in found) if "string" in types.values() else 0


def _groups(documents: list[bytes]) -> Iterator[list[bytes]]:
    """Yield documents in groups that are decoded at once."""
    group: list[bytes] = []
    size = 0
    for document in documents:
        group.append(document)
        size += len(document)
        if size >= DECODED_AT_ONCE:
            yield group
            group, size = [], 0
    if group:
        yield group


def _document_rows(types: Mapping[str, str]) -> int:
    """Return the rows of one document of an answer, so that it is of moderate size: strings may be long."""
    return min(CHUNK, DOCUMENT_FIELDS // max(1, len(types)), TEXT_ROWS if "string" in types.values() else CHUNK) or 1
