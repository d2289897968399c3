"""One InfluxDB server: its address, token, TLS, timeouts and connections, the same for writes and queries.

Both go through one `InfluxDBClientAsync`. Its own query API speaks Flux; InfluxQL goes through its generic `call_api`,
which sends with the same headers and pool and, with `_preload_content=False`, leaves the body to be read in pieces, so
that a long answer is never in memory as a whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import aiohttp
from influxdb_client import WritePrecision
from influxdb_client.client.influxdb_client_async import InfluxDBClientAsync
from influxdb_client.rest import ApiException

from gateway.config.models import InfluxDB
from gateway.errors import SecretMissing, StoreUnavailable, StoreUnreachable
from gateway.stores.influxdb_errors import Failure
from gateway.stores.write_slots import ASIDE

WRITES_AT_ONCE = 8
QUERIES_AT_ONCE = 100
"""Further queries wait for one of these to end. A slow reader of a long answer holds one; writes never wait for it."""

_TOKEN_REJECTED = (401, 403, 404)
"""InfluxDB answers 404 where the token may not see the bucket."""


class InfluxDBServer:
    """Client of the server that `settings` name. `token` may read and write every startup's bucket.

    Provisioning renews that token whenever a startup joins. `renew` reads it again when InfluxDB rejects the one in
    use, so that the gateway needs no restart. `name` is the store's in gateway.yaml, for advice.
    """

    def __init__(self, settings: InfluxDB, token: str, renew: Callable[[], str] | None, name: str | None) -> None:
        self._settings = settings
        self._url = settings.url.rstrip("/")
        self._name = name
        self._token = token
        self._renew = renew
        self._renewing = asyncio.Lock()
        self._querying = asyncio.Semaphore(QUERIES_AT_ONCE)

    def open(self) -> None:
        """Build the client; nothing is sent yet."""
        timeout = self._settings.timeout
        self._client = InfluxDBClientAsync(
            self._url,
            self._token,
            self._settings.org,
            # Each piece of an answer has its time, not the whole: a history may take minutes. `write` bounds itself.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=timeout, sock_read=timeout),
            connection_pool_maxsize=WRITES_AT_ONCE * (1 + ASIDE) + QUERIES_AT_ONCE,
            enable_gzip=False,
            allow_redirects=False,  # a redirected POST would arrive as a GET, without its lines
        )
        self._writes = self._client.write_api()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def write(self, bucket: str, body: bytes) -> None:
        """Write lines of line protocol, within the timeout.

        Raises:
            StoreRefused: InfluxDB will never take these lines.
            StoreUnavailable: not now.
        """
        token = self._token
        try:
            with self._network_explained():
                async with asyncio.timeout(self._settings.timeout):  # sending has no bound of aiohttp's own
                    written = await self._writes.write(
                        bucket, self._settings.org, body, write_precision=WritePrecision.NS
                    )
        except ApiException as error:
            if await self._is_renewed(token, error.status):
                await self.write(bucket, body)
                return
            raise self._failure(bucket, error.status, error.headers, error.body).of_write() from None
        if not written:  # a success that is not the API's 204: a page of a proxy or of another server
            raise self._failure(bucket, 200).of_write()

    @asynccontextmanager
    async def query(self, bucket: str, statement: str, chunk_size: int) -> AsyncIterator[AsyncIterator[list[bytes]]]:
        """Yield the answer to a statement once its head has arrived: JSON documents, each with `chunk_size` rows at
        most, as many together as have arrived together.

        Raises:
            StoreUnavailable: not now.
        """
        form = {"db": bucket, "q": statement, "epoch": "ns", "chunked": "true", "chunk_size": str(chunk_size)}
        async with self._querying:
            with self._network_explained():
                async with await self._answer(bucket, form) as answer:
                    yield _lines(answer.content)

    async def _answer(self, bucket: str, form: dict[str, str]) -> aiohttp.ClientResponse:
        token = self._token
        answer: aiohttp.ClientResponse = await self._client.api_client.call_api(
            "/query",
            "POST",
            header_params={"Content-Type": "application/x-www-form-urlencoded"},
            post_params=form,
            _preload_content=False,  # public, in spite of its name: see the docstring of `call_api`
        )
        if answer.status == 200:
            return answer
        async with answer:
            failure = self._failure(bucket, answer.status, answer.headers, await answer.read())
        if await self._is_renewed(token, answer.status):
            return await self._answer(bucket, form)
        raise failure.of_query()

    async def _is_renewed(self, rejected: str, status: int | None) -> bool:
        """Return whether another token is in use now than the rejected one."""
        if status not in _TOKEN_REJECTED or self._renew is None:
            return False
        async with self._renewing:
            if self._token == rejected:
                try:
                    self._token = await asyncio.to_thread(self._renew)
                except SecretMissing:
                    return False
                self._client.api_client.set_default_header("Authorization", f"Token {self._token}")
        return self._token != rejected

    def _failure(self, bucket: str, status: int, headers: Any = None, body: bytes | None = None) -> Failure:
        return Failure(status or 0, headers or {}, body or b"", bucket, self._settings.org, self._name)

    @contextmanager
    def _network_explained(self) -> Iterator[None]:
        try:
            yield
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            problem = str(error) or type(error).__name__
            if isinstance(error, TimeoutError) and not str(error):
                problem = f"no answer within {self._settings.timeout:g} s"
            # A later failure says nothing about other buckets: one may hang while the rest answer.
            is_nobody_there = isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
            kind = StoreUnreachable if is_nobody_there else StoreUnavailable
            raise kind(f"InfluxDB at {self._url} cannot be reached: {problem}") from error


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[list[bytes]]:
    """Yield the lines of a body, however long: `readline` has a limit that a chunk of strings goes beyond."""
    begun: list[bytes] = []
    async for block in content.iter_any():
        first, *further = block.split(b"\n")
        begun.append(first)
        if further:
            yield [line for line in (b"".join(begun), *further[:-1]) if line]
            begun = [further[-1]]
    if line := b"".join(begun):
        yield [line]
