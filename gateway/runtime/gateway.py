"""Composition root of a gateway that is one process: the engine, and the HTTP application beside it.

Stopping: first the engine, which takes no more messages and drains; then HTTP; then the databases are closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace

from prometheus_client.core import Metric

from gateway.api.auth import Tokens
from gateway.api.limits import Limits
from gateway.api.server import HttpServer
from gateway.api.services import Services
from gateway.config import Config, Loader, Settings
from gateway.errors import ReplayImpossible
from gateway.feeds.live_ring import LiveFeeds
from gateway.health import Health, Part
from gateway.logs import get_logger
from gateway.model import Listener, Reason
from gateway.runtime.engine import Engine, within
from gateway.runtime.http_application import make_application
from gateway.runtime.reload import Reloader
from gateway.state.lock import locked
from gateway.state.reader import StateReader

STOP_WEB_WITHIN = 5.0
LEFT = "it serves no startup; stop it once its journal is empty (gateway status)"

log = get_logger(__name__)


class Gateway:
    """One gateway over one state directory. `run` is all it does; its parts may be looked at.

    With the `loader` of its configuration it watches the files, and takes over changes. `listeners` hear of every
    outcome, as the live feeds do.
    """

    def __init__(
        self, config: Config, tokens: Tokens, loader: Loader | None = None, listeners: Sequence[Listener] = ()
    ) -> None:
        self.config = config
        self.live = LiveFeeds(config.settings.feeds.kept)
        self.engine = Engine(config, [self.live, *listeners])
        self.reloader = Reloader(loader, self.use, StateReader(config.state_dir)) if loader else None
        self._services = Services(
            config=config,
            tokens=tokens,
            store=self.engine.store,
            live=self.live,
            state=StateReader(config.state_dir),
            devices=self.engine.devices,
            health=self.health,
            measured=self._measured,
            replay=self._replay,
            forget_type=self._forget_type,
            release=self._release,
            limits=Limits(self.engine.store.computing),
        )
        self._stop = asyncio.Event()
        self._failure: Exception | None = None

    def stop(self) -> None:
        """Begin to stop; `run` returns when all is done."""
        self._stop.set()

    def reload_now(self) -> None:
        """Read the configuration again, on SIGHUP."""
        if self.reloader is not None:
            self._reloading = asyncio.ensure_future(self.reloader.now())

    def use(self, config: Config, tokens: Tokens) -> None:
        """Take over a changed configuration, between two batches: nothing is dropped, nothing waits."""
        self.config = keep_settings(self.config, config)
        self.engine.use(self.config)
        self._services.use(self.config, tokens)
        log.info("configuration reloaded", startups=len(self.config.startups))

    async def run(self, started: Callable[[HttpServer], None] = lambda _web: None) -> None:
        """Run until `stop`. `started` is called once, when HTTP listens.

        Raises:
            StateUnavailable, AddressUnavailable, CertificateUnusable: at the start.
            StateUnavailable: the state was removed or changed meanwhile.
        """
        async with AsyncExitStack() as stack:
            await asyncio.to_thread(stack.enter_context, locked(self.config.state_dir))
            server = stack.enter_context(HttpServer(self.config.settings.http))
            async with self.engine:
                application = await asyncio.to_thread(make_application, self._services)
                journaled = self.engine.state.journal.readings
                log.info("gateway started", http=server.url, startups=len(self.config.startups), journaled=journaled)
                started(server)
                async with asyncio.TaskGroup() as tasks:
                    serving = tasks.create_task(server.run(application), name="web")
                    working = tasks.create_task(self._work(), name="engine")
                    reloading = tasks.create_task(self.reloader.run(), name="reload") if self.reloader else None
                    await self._stop.wait()
                    if reloading is not None:
                        reloading.cancel()
                    self.engine.stop()
                    await asyncio.wait((working,))
                    server.stop()
                    await within(serving, STOP_WEB_WITHIN)
                if self._failure is not None:
                    raise self._failure
        log.info("gateway stopped", journaled=self.engine.state.journal.readings)

    async def _work(self) -> None:
        """Run the engine. Where it fails, everything else is stopped in good order first."""
        try:
            await self.engine.run()
        except Exception as error:  # of any kind: `run` raises it
            self._failure = error
        finally:
            self._stop.set()

    def health(self) -> Health:
        """Return the state of each part, with its problem in words."""
        found = self.engine.health()
        config = Part("config", self.reloader.problem if self.reloader else "")
        return replace(found, config=config)

    async def _measured(self) -> Sequence[Metric]:
        return await asyncio.to_thread(self.engine.metrics.families)

    async def _forget_type(self, startup: str, measurement: str, name: str) -> int:
        forgotten = await self.engine.forget_type(startup, measurement, name)
        if self.reloader is not None:
            await self.reloader.again()
        return forgotten

    async def _replay(self, ident: int) -> Sequence[Reason]:
        worker, local = await asyncio.to_thread(self._services.state.place, ident)
        if worker:
            raise ReplayImpossible(f"dead letter {ident} is kept by worker {worker}: run at least {worker + 1} workers")
        return await self.engine.replay(local)

    async def _release(self, startup: str) -> bool:
        return self.engine.drain.release(startup)


def keep_settings(before: Config, after: Config) -> Config:
    """Return the startups of a changed configuration with the settings of gateway.yaml that a running gateway keeps:
    all of them; only one of several hosts takes over changes of `hosts`."""
    hosts = before.settings.hosts
    if before.host is not None and after.settings.hosts:
        hosts = after.settings.hosts
        if before.host not in hosts:
            log.warning("this host was removed from the configuration", host=before.host, next=LEFT)
    settings = before.settings.model_copy(update={"hosts": hosts})
    for name in Settings.model_fields:
        if getattr(settings, name) != getattr(after.settings, name):
            log.warning("setting changed", setting=name, next="it takes effect at the next start")
    return after.model_copy(update={"settings": settings, "host": before.host})
