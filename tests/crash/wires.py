"""Wires between the gateway and its servers: cut, stalled, half-open, slow, or with a store that lies at their end."""

from __future__ import annotations

import asyncio

from aiohttp import web
from aiohttp.typedefs import Handler

from tests.servers import FlakyProxy, InfluxV2Front

PAGE = "<html><head><title>{0}</title></head><body><h1>{0}</h1><hr>nginx</body></html>"


class Wire(FlakyProxy):
    """A `FlakyProxy` that can also swallow what its connections bring, and be slow."""

    rate: float | None = None
    """Bytes a second of each direction of each connection; None: no limit."""
    _swallowed = 0

    def swallow(self) -> None:
        """Leave the present connections half-open: they stay, and nothing that is sent on them arrives. New ones
        work."""
        self._swallowed = self.connections

    async def pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        number = self.connections
        while data := await source.read(65536 if self.rate is None else 4096):
            await self._flowing.wait()
            if number <= self._swallowed:
                continue
            if self.rate is not None:
                await asyncio.sleep(len(data) / self.rate)
            sink.write(data)
            await sink.drain()
        if number > self._swallowed:
            sink.write_eof()


class LyingFront(InfluxV2Front):
    """InfluxDB behind a proxy that sometimes answers itself, in HTML: with an error, or with a cheerful 200."""

    lie: int | None = None
    """Status of each answer to a write; None: InfluxDB answers."""
    lied = 0

    def _app(self) -> web.Application:
        app = super()._app()
        app.middlewares.insert(0, self._answer)
        return app

    @web.middleware
    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self.lie is None or request.path != "/api/v2/write":
            return await handler(request)
        await request.read()
        self.lied += 1
        page = PAGE.format(f"{self.lie} answered by a proxy")
        return web.Response(status=self.lie, text=page, content_type="text/html")
