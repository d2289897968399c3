"""One InfluxDB server: its address, token, TLS, timeouts and connections, the same for writes and queries.

Both go through the generic `call_api` of one `InfluxDBClientAsync`, which sends with the same headers and pool and,
with `_preload_content=False`, leaves the body to be read in pieces: a long answer is never in memory as a whole. Its
own query API speaks Flux, and its write API takes any 201 for stored.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

import aiohttp
from influxdb_client.client.influxdb_client_async import InfluxDBClientAsync

from gateway.config.credentials import store_setting
from gateway.config.models import InfluxDB
from gateway.errors import GatewayError, SecretMissing, StoreUnavailable, StoreUnreachable
from gateway.logs import folded, get_logger
from gateway.stores.influxdb_errors import SHOWN, TOO_LARGE, Failure
from gateway.stores.pace import Pace
from gateway.stores.write_slots import ASIDE
from gateway.visible import visible

log = get_logger(__name__)

WRITES_AT_ONCE = 8
QUERIES_AT_ONCE = 100
"""Further queries wait for one of these to end. A slow reader of a long answer holds one; writes never wait for it."""

BODY = 1 << 20
"""Bytes of one write. aiohttp sends a longer body in one piece, and nginx rejects that by default."""
ANSWER = 64 << 10
"""Bytes that are read of an answer that is not a success."""
LINE = 128 << 20
"""Bytes of one document of an answer: fifty rows of the longest messages take less."""

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
        self._paces: dict[str, Pace] = {}
        self._querying = asyncio.Semaphore(QUERIES_AT_ONCE)

    def open(self) -> None:
        """Build the client; nothing is sent yet."""
        self._client = InfluxDBClientAsync(
            self._url,
            self._token,
            self._settings.org,
            # Writes and queries have bounds of their own, which are longer for a single long reading.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._settings.timeout),
            connection_pool_maxsize=WRITES_AT_ONCE * (1 + ASIDE) + QUERIES_AT_ONCE,
            enable_gzip=False,
            allow_redirects=False,  # a redirected POST would arrive as a GET, without its lines
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def bytes_at_once(self, bucket: str) -> int:
        """Return how many bytes the next write to a bucket should have at most."""
        return self._pace(bucket).limit

    async def write(self, bucket: str, lines: Sequence[bytes]) -> None:
        """Write lines of line protocol in one request, within the timeout.

        Raises:
            StoreRefused: InfluxDB itself says that it will never take these lines.
            StoreUnavailable: not now.
        """
        token, body, pace = self._token, b"\n".join(lines), self._pace(bucket)
        began = time.monotonic()
        try:
            with self._network_explained(seconds := pace.seconds(len(body), self._settings.timeout)):
                async with asyncio.timeout(seconds):
                    failure = await self._written(bucket, body, len(lines))
        except StoreUnreachable:
            raise
        except StoreUnavailable:  # too slow, or cut off: the body may have been too long for something on the way
            pace.was_slow(len(body))
            raise
        if failure is None:
            pace.took(len(body), time.monotonic() - began, self._settings.timeout)
            return
        if failure.status == TOO_LARGE:
            pace.was_too_long(len(body))
        elif failure.is_foreign:  # it gave up on the body, or on the server behind it, or its rules have a limit
            pace.was_slow(len(body))
        if await self._is_renewed(token, failure.status):
            await self.write(bucket, lines)
            return
        raise failure.of_write()

    async def _written(self, bucket: str, body: bytes, lines: int) -> Failure | None:
        """Write a body; return the answer where it is not InfluxDB's 204."""
        async with await self._client.api_client.call_api(
            "/api/v2/write",
            "POST",
            query_params={"org": self._settings.org, "bucket": bucket, "precision": "ns"},
            header_params={"Content-Type": "text/plain; charset=utf-8", "Accept": "application/json"},
            body=body,
            _preload_content=False,
        ) as answer:
            if answer.status == 204:
                return None
            return self._failure(bucket, answer, await _beginning(answer), lines)

    def _pace(self, bucket: str) -> Pace:
        return self._paces.setdefault(bucket, Pace(BODY))

    @asynccontextmanager
    async def query(self, bucket: str, statement: str, chunk_size: int) -> AsyncIterator[AsyncIterator[list[bytes]]]:
        """Yield the answer to a statement once its head has arrived: JSON documents, each with `chunk_size` rows at
        most, as many together as have arrived together.

        Raises:
            StoreUnavailable: not now.
        """
        form = {"db": bucket, "q": statement, "epoch": "ns", "chunked": "true", "chunk_size": str(chunk_size)}
        async with self._querying:
            with self._network_explained(self._settings.timeout):
                async with await self._answer(bucket, form) as answer:
                    yield _lines(answer.content, self._settings.timeout)

    async def _answer(self, bucket: str, form: dict[str, str]) -> aiohttp.ClientResponse:
        token = self._token
        async with asyncio.timeout(self._settings.timeout):
            answer: aiohttp.ClientResponse = await self._client.api_client.call_api(
                "/query",
                "POST",
                header_params={"Content-Type": "application/x-www-form-urlencoded"},
                post_params=form,
                _preload_content=False,  # public, in spite of its name: see the docstring of `call_api`
            )
        if answer.status == 200:
            return answer
        async with answer, asyncio.timeout(self._settings.timeout):
            failure = self._failure(bucket, answer, await _beginning(answer))
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

    def _failure(self, bucket: str, answer: aiohttp.ClientResponse, body: bytes, lines: int = 0) -> Failure:
        return Failure(answer.status, answer.headers, body, bucket, self._settings.org, self._name, lines)

    @contextmanager
    def _network_explained(self, timeout: float) -> Iterator[None]:
        """Turn whatever goes wrong on the way into an error of the contract."""
        try:
            yield
        except GatewayError:
            raise
        except Exception as error:  # the libraries below raise many kinds, and no answer may end a lane or a query
            if not isinstance(error, aiohttp.ClientError | TimeoutError | OSError):
                log.warning("an answer of InfluxDB could not be read", url=self._url, problem=folded(error))
            problem = str(error) or type(error).__name__
            if isinstance(error, TimeoutError) and not str(error):
                problem = f"no answer within {timeout:g} s ({store_setting(self._name)}.influxdb.timeout)"
            # A later failure says nothing about other buckets: one may hang while the rest answer.
            is_nobody_there = isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
            kind = StoreUnreachable if is_nobody_there else StoreUnavailable
            raise kind(f"InfluxDB at {self._url} cannot be reached: {visible(problem)[:SHOWN]}") from error


async def _beginning(answer: aiohttp.ClientResponse) -> bytes:
    """Return the body of an answer, or as much of it as a failure needs: what answers may send without end."""
    body = bytearray()
    async for block in answer.content.iter_any():
        body += block
        if len(body) >= ANSWER:
            break
    return bytes(body[:ANSWER])


async def _lines(content: aiohttp.StreamReader, timeout: float) -> AsyncIterator[list[bytes]]:
    """Yield the lines of a body, however long: `readline` has a limit that a chunk of strings goes beyond. Each piece
    has its time, not the whole: a history may take minutes."""
    begun: list[bytes] = []
    size = 0
    while True:
        async with asyncio.timeout(timeout):
            block = await content.readany()
        if not block:
            break
        first, *further = block.split(b"\n")
        begun.append(first)
        size += len(first)
        if size > LINE:
            raise StoreUnavailable(f"this is not an InfluxDB response: a line of more than {LINE:,} bytes")
        if further:
            yield [line for line in (b"".join(begun), *further[:-1]) if line]
            begun, size = [further[-1]], len(further[-1])
    if line := b"".join(begun):
        yield [line]
