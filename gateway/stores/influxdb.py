"""InfluxDB 2 (and what speaks its API): a bucket for each startup.

Writes are line protocol to `/api/v2/write`, as it came from the journal. Queries are InfluxQL to `/query`,
where every bucket is a database of the same name; answers are read as they arrive.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import aiohttp
from influxdb_client import WritePrecision
from influxdb_client.client.influxdb_client_async import InfluxDBClientAsync
from influxdb_client.rest import ApiException

from gateway.config.models import InfluxDB
from gateway.errors import SecretMissing, StoreUnreachable, StoreUnreadable
from gateway.model import Reading
from gateway.stores import influxql
from gateway.stores.contract import Columns, Query, Row
from gateway.stores.influxdb_errors import Failure

CHUNK = 2000
"""Rows of one document of an answer. A chunk has at least as many, but for the last."""

BODY = 1 << 20
"""Bytes of one write. aiohttp sends a longer body in one piece, and nginx refuses it unless told otherwise."""


class InfluxDBStore:
    """Readings in InfluxDB. A `stores.contract.Store`; `token` may read and write every startup's bucket.

    Provisioning makes that token anew whenever a startup joins. `renew` reads it again when InfluxDB refuses the one
    in use, so that the gateway goes on without a restart. `name` is the store's in gateway.yaml, for advice.
    """

    writes_at_once = 8

    def __init__(
        self, settings: InfluxDB, token: str, renew: Callable[[], str] | None = None, name: str | None = None
    ) -> None:
        self._settings = settings
        self._name = name
        self._token = token
        self._read_token = renew
        self._renewing = asyncio.Lock()
        self._url = settings.url.rstrip("/")

    async def open(self) -> None:
        """Build the clients; nothing is sent yet."""
        self._client = InfluxDBClientAsync(
            self._url,
            self._token,
            self._settings.org,
            timeout=int(self._settings.timeout * 1000),
            enable_gzip=False,
            allow_redirects=False,  # a redirected POST would come as a GET, without its lines
        )
        self._writes = self._client.write_api()
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Token {self._token}"},
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=self._settings.timeout, sock_read=self._settings.timeout
            ),
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()
        await self._session.close()

    async def write(self, startup: str, lines: Sequence[bytes]) -> None:
        """See `Store.write`."""
        bucket = self._bucket(startup)
        with self._network_explained():
            for body in _bodies(lines):
                await self._write(bucket, body)

    async def measurements(self, startup: str) -> list[str]:
        """See `Store.measurements`."""
        answer = await self._answer(startup, "SHOW MEASUREMENTS")
        return sorted(name for series in answer for (name,) in series.values)

    async def check_readable(self, startup: str) -> None:
        """A token without the right to a bucket finds none of its measurements, and no error: only a SELECT tells. See
        `Store.check_readable`."""
        async with self._asked(startup, influxql.PROBE) as answer:
            is_shown = influxql.NOT_FOUND not in await answer.text()
        if not is_shown:
            raise StoreUnreadable(
                f"InfluxDB shows the gateway's token no bucket {self._bucket(startup)!r}: it is not there, or the "
                "token may not read it"
            )

    async def columns(self, startup: str, measurement: str) -> Columns:
        """See `Store.columns`."""
        tags = await self._answer(startup, influxql.tag_keys(measurement))
        fields = influxql.field_types(await self._answer(startup, influxql.field_keys(measurement)))
        names = sorted(name for series in tags for (name,) in series.values)
        return Columns(tuple(names), tuple(sorted(fields.get(measurement, {}))))

    async def history(self, startup: str, query: Query) -> AsyncGenerator[list[Row]]:
        """See `Store.history`."""
        found = influxql.field_types(await self._answer(startup, influxql.field_keys(query.measurement)))
        types = found.get(query.measurement)
        if types is None:
            return
        statement = influxql.history(query, types)
        if query.every_ns is not None:
            types = influxql.downsampled(types)
        chunk: list[Row] = []
        async with self._asked(startup, statement) as answer:
            async for series in _series(answer):
                chunk += influxql.rows(series, types)
                if len(chunk) >= CHUNK:
                    yield chunk
                    chunk = []
        if chunk:
            yield chunk

    async def expire(self, startup: str, before_ns: int) -> None:
        """Nothing: each bucket has a retention of its own. See `Store.expire`."""

    async def latest(self, startup: str) -> list[Reading]:
        """See `Store.latest`."""
        types = influxql.field_types(await self._answer(startup, "SHOW FIELD KEYS"))
        if not types:
            return []
        return [
            _reading(startup, series.measurement, row)
            for series in await self._answer(startup, influxql.latest(sorted(types)))
            for row in influxql.rows(series, types[series.measurement])
        ]

    async def _write(self, bucket: str, body: bytes) -> None:
        try:
            written = await self._writes.write(bucket, self._settings.org, body, write_precision=WritePrecision.NS)
        except ApiException as error:
            if await self._renewed(error.status):
                await self._write(bucket, body)
                return
            raise self._failure(bucket, error.status, error.headers, error.body).of_write() from None
        if not written:  # a success that is not the API's 204: a proxy's or another server's page
            raise self._failure(bucket, 200).of_write()

    async def _answer(self, startup: str, statement: str) -> list[influxql.Series]:
        async with self._asked(startup, statement) as answer:
            return [series async for series in _series(answer)]

    @asynccontextmanager
    async def _asked(self, startup: str, statement: str) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer to a statement, once its head has come; its body is read inside."""
        bucket = self._bucket(startup)
        asked = {"db": bucket, "q": statement, "epoch": "ns", "chunked": "true", "chunk_size": str(CHUNK)}
        with self._network_explained():
            answer = await self._session.post(f"{self._url}/query", data=asked)
            if await self._renewed(answer.status):
                answer.close()
                answer = await self._session.post(f"{self._url}/query", data=asked)
            async with answer:
                if answer.status != 200:
                    failure = self._failure(bucket, answer.status, answer.headers, await answer.read())
                    raise failure.of_query()
                yield answer

    async def _renewed(self, status: int | None) -> bool:
        """Whether another token is in use now than the one that was refused."""
        if status not in (401, 403, 404) or self._read_token is None:
            return False
        refused = self._token
        async with self._renewing:
            if self._token != refused:
                return True
            try:
                token = await asyncio.to_thread(self._read_token)
            except SecretMissing:
                return False
            if token == refused:
                return False
            self._token = token
            client, session = self._client, self._session
            await self.open()
            await client.close()
            await session.close()
            return True

    def _bucket(self, startup: str) -> str:
        return self._settings.bucket.replace("{startup}", startup)

    def _failure(self, bucket: str, status: int, headers: Any = None, body: bytes | None = None) -> Failure:
        return Failure(status or 0, headers or {}, body or b"", bucket, self._settings.org, self._name)

    @contextmanager
    def _network_explained(self) -> Iterator[None]:
        try:
            yield
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            said = str(error) or type(error).__name__
            raise StoreUnreachable(f"InfluxDB at {self._url} cannot be reached: {said}") from error


def _bodies(lines: Sequence[bytes]) -> Iterator[bytes]:
    """The lines in as few bodies as `BODY` allows; mostly that is one."""
    whole = b"\n".join(lines)
    if len(whole) <= BODY:
        yield from [whole] if whole else []
        return
    body: list[bytes] = []
    size = 0
    for line in lines:
        size += len(line) + 1
        if body and size > BODY:
            yield b"\n".join(body)
            body, size = [], len(line) + 1
        body.append(line)
    if body:
        yield b"\n".join(body)


async def _series(answer: aiohttp.ClientResponse) -> AsyncIterator[influxql.Series]:
    async for document in _lines(answer.content):
        for series in influxql.answered(document):
            yield series


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """The lines of a body, however long: `readline` has a limit that a chunk of texts goes beyond."""
    begun: list[bytes] = []
    async for block in content.iter_any():
        first, *further = block.split(b"\n")
        begun.append(first)
        for part in further:
            if line := b"".join(begun):
                yield line
            begun = [part]
    if line := b"".join(begun):
        yield line


def _reading(startup: str, measurement: str, row: Row) -> Reading:
    tags = {key: value for key, value in row.tags.items() if key != "device"}
    return Reading(startup, row.tags.get("device", ""), measurement, tags, row.fields, row.time_ns)
