"""The composition root: builds the parts, runs them in one TaskGroup, and stops them in order.

Stopping: no more messages in; what came is committed and acknowledged; the journal is drained for as long as
`drain.stop_within` allows (what is left stays on disk for the next run); then the rest.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

from fastapi import FastAPI

from gateway.config import Config, Settings
from gateway.config.secrets import influxdb_token, mqtt_password
from gateway.database import FILE_NAME, Database
from gateway.drain import Drain
from gateway.errors import StateUnavailable, StoreUnavailable
from gateway.feeds.api import create_api
from gateway.feeds.auth import Tokens
from gateway.feeds.health import Health, Part
from gateway.feeds.live import Live
from gateway.feeds.mqtt_feed import MqttFeed
from gateway.feeds.services import Services
from gateway.ingest import Ingest
from gateway.journal import Journal
from gateway.logs import get_logger
from gateway.metrics import Metrics
from gateway.model import Rejection
from gateway.mqtt.auto import make_session
from gateway.pipeline import Outcome, Pipeline
from gateway.quota import QuotaMeter
from gateway.registry import Registry
from gateway.reload import Reloader
from gateway.stores.by_startup import StoreByStartup
from gateway.stores.contract import Store
from gateway.stores.sqlite import SqliteStore
from gateway.tally import Tally
from gateway.timestamps import NS
from gateway.topics import subscriptions
from gateway.web import Web

STORE = "store"
SAVE_EVERY = 2.0
EXPIRE_EVERY = 3600.0
STOP_INGEST_WITHIN = 10.0
STOP_WEB_WITHIN = 5.0

log = get_logger(__name__)


class Gateway:
    """One gateway over one state directory. `run` is all it does; the parts are there to be looked at.

    With the `directory` of its configuration it watches that, and takes over what changes there.
    """

    def __init__(self, config: Config, tokens: Tokens, directory: Path | None = None) -> None:
        settings = config.settings
        self.config = config
        self.live = Live(settings.feeds.kept)
        self.metrics = Metrics()
        self.database = Database(config.state_dir / FILE_NAME)
        self.journal = Journal(self.database, settings.journal)
        self.registry = Registry(self.database, _device_limits(config))
        self.store = make_store(config)
        self.session = make_session(
            settings.mqtt,
            _filters(config),
            mqtt_password(settings),
        )
        self.mqtt_feed = MqttFeed(self.session, self.metrics, readings=settings.feeds.mqtt)
        self.reloader = Reloader(directory, self.use) if directory else None
        self.drain = Drain(
            self.journal,
            self.store,
            self.database,
            settings.drain,
            settings.dead_letters,
            self._publish_refused,
        )
        self._meters: dict[str, QuotaMeter] = {}
        self._tokens = tokens
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """Begin to stop; `run` returns when all is done."""
        self._stop.set()

    def reload_now(self) -> None:
        """Read the configuration again, as SIGHUP asks."""
        if self.reloader is not None:
            self._reloading = asyncio.ensure_future(self.reloader.now())

    def use(self, config: Config, tokens: Tokens) -> None:
        """Take over a changed configuration, between two batches: nothing is dropped, nothing waits."""
        for name in _needs_restart(self.config.settings, config.settings):
            log.warning("setting changed", setting=name, next="it takes effect at the next start")
        self.config = config.model_copy(update={"settings": self.config.settings})
        self._tokens = tokens
        self.store.assign(config.startups)
        slugs = [startup.slug for startup in config.startups]
        self.ingest.use(Pipeline(self.config, self._make_meters()), self._meters)
        self.registry.limits = _device_limits(config)
        self.drain.add(slugs)
        self.session.subscribe(_filters(config))
        self._services.config, self._services.tokens = self.config, tokens
        log.info("configuration reloaded", startups=len(slugs))

    async def run(self, started: Callable[[Web], None] = lambda _web: None) -> None:
        """Run until `stop`. `started` is called once, when HTTP listens.

        Raises:
            StateUnavailable, AddressInUse: at the start.
        """
        async with AsyncExitStack() as stack:
            await asyncio.to_thread(stack.enter_context, _lock(self.config.state_dir))
            web = stack.enter_context(Web(self.config.settings.http))
            await self.database.open()
            stack.push_async_callback(self.database.close)
            await self.journal.open()
            await self.registry.open()
            stack.push_async_callback(self.registry.save)
            await self.store.open()
            stack.push_async_callback(self.store.close)
            self.ingest = self._make_ingest()
            self._tally = Tally(self.store, self.registry.knows, self.ingest.measurement_of)
            api = await self._make_api()
            log.info(
                "gateway started",
                http=web.url,
                startups=len(self.config.startups),
                journaled=self.journal.readings,
            )
            started(web)
            await self._run_parts(web, api)
        log.info("gateway stopped", journaled=self.journal.readings)

    async def _run_parts(self, web: Web, api: FastAPI) -> None:
        startups = [startup.slug for startup in self.config.startups]
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(web.run(api), name="web")
            helpers = [
                tasks.create_task(self.session.run(), name="session"),
                tasks.create_task(self._save_registry(), name="registry-save"),
                tasks.create_task(self._expire(), name="expire"),
                tasks.create_task(self._tally.run(), name="tally"),
            ]
            if self.reloader is not None:
                helpers.append(tasks.create_task(self.reloader.run(), name="reload"))
            ingesting = tasks.create_task(self.ingest.run(), name="ingest")
            draining = tasks.create_task(self.drain.run(startups), name="drain")
            await self._stop.wait()
            log.info("gateway stopping", journaled=self.journal.readings)
            self.session.stop()
            await _within(ingesting, STOP_INGEST_WITHIN)
            self.drain.stop()
            await _within(draining, self.config.settings.drain.stop_within)
            web.stop()
            await _within(serving, STOP_WEB_WITHIN)
            for helper in helpers:
                helper.cancel()

    def health(self) -> Health:
        """What works and what does not, in words."""
        session = self.session.state
        parts = (
            Part("broker", session.problem),
            Part("disk", self.ingest.problem),
            Part(
                "journal",
                "it is full: messages wait at the broker until the store takes readings again"
                if self.journal.is_full
                else "",
            ),
        )
        stores = {startup: Part("store", state.problem) for startup, state in self.drain.states.items()}
        problem = self.reloader.problem if self.reloader else ""
        return Health(parts, stores, Part("config", problem))

    def _make_ingest(self) -> Ingest:
        return Ingest(
            self.session,
            Pipeline(self.config, self._make_meters()),
            self.journal,
            self.database,
            self.registry,
            self._meters,
            self.metrics,
            self.config.settings.dead_letters,
            self._publish,
        )

    def _make_meters(self) -> dict[str, QuotaMeter]:
        """A meter for each startup; one that was here before goes on with what it has counted."""
        for startup in self.config.startups:
            known = self._meters.get(startup.slug)
            if known is not None:
                known.quota = startup.quota
                continue
            devices = (device.device for device in self.registry.devices(startup.slug) if device.accepted)
            self._meters[startup.slug] = QuotaMeter(startup.quota, devices, self.registry.series(startup.slug))
        return self._meters

    async def _make_api(self) -> FastAPI:
        services = self._services = Services(
            self.config,
            self._tokens,
            self.store,
            self.live,
            self.registry,
            self.database,
            self.metrics,
            self.health,
            self.ingest.replay,
        )
        api = create_api(services)
        if self.config.settings.http.console:
            storage_secret = await asyncio.to_thread(_storage_secret, self.config.state_dir / "console.secret")
            _mount_console(api, services, storage_secret)
        return api

    def _publish(self, outcome: Outcome) -> None:
        self.live.publish(outcome)
        for startup, readings in outcome.readings.items():
            self.mqtt_feed.publish_readings(startup, readings)
        self.mqtt_feed.publish_rejections(outcome.rejections)
        self._tally.add(outcome.rejections)

    def _publish_refused(self, rejections: list[Rejection]) -> None:
        self.metrics.rejected(rejections)
        self.live.publish_rejections(rejections)
        self.mqtt_feed.publish_rejections(rejections)
        self._tally.add(rejections)

    async def _save_registry(self) -> None:
        while True:
            await asyncio.sleep(SAVE_EVERY)
            try:
                await self.registry.save()
            except StateUnavailable as error:
                log.warning("devices not saved", problem=str(error), next="trying again")

    async def _expire(self) -> None:
        """Every hour, forget what is older than its startup's retention."""
        while True:
            for startup in self.config.startups:
                try:
                    await self.store.expire(startup.slug, time.time_ns() - int(startup.retention * NS))
                except StoreUnavailable as error:
                    log.warning("old readings not deleted", startup=startup.slug, problem=str(error))
            await asyncio.sleep(EXPIRE_EVERY)


def _filters(config: Config) -> tuple[str, ...]:
    return subscriptions(rule.template for startup in config.startups for rule in startup.topics.values())


def _device_limits(config: Config) -> dict[str, int]:
    return {startup.slug: startup.quota.devices for startup in config.startups}


def _needs_restart(before: Settings, after: Settings) -> Iterator[str]:
    """The settings of gateway.yaml that a running gateway does not take over."""
    yield from (name for name in Settings.model_fields if getattr(before, name) != getattr(after, name))


def forget_embedded(config: Config, slug: str) -> None:
    """Delete a startup's readings from the embedded store."""
    for path in (config.state_dir / STORE).glob(f"{slug}.db*"):
        path.unlink()


def make_store(config: Config) -> StoreByStartup:
    """The stores of the configuration, each startup in its own.

    Raises:
        SecretMissing: the token of one is nowhere.
    """
    settings = config.settings
    embedded = SqliteStore(config.state_dir / STORE)
    stores = {
        name: embedded if settings.store_named(name).kind == "sqlite" else _influxdb(settings, name)
        for name in (None, *settings.stores)
    }
    return StoreByStartup(stores, config.startups)


def _influxdb(settings: Settings, name: str | None) -> Store:
    from gateway.stores.influxdb import InfluxDBStore  # takes half a second to import

    def token() -> str:
        return influxdb_token(settings, name)

    return InfluxDBStore(settings.store_named(name).influxdb, token(), token, name)


def _mount_console(api: FastAPI, services: Services, storage_secret: str) -> None:
    """The web page, where its extra is installed."""
    try:
        from gateway import console
    except ImportError as error:
        log.warning(
            "no web page",
            problem=f"{error.name} is not installed",
            next="pip install 'testbed-gateway[console]', or set http.console: false",
        )
        return
    console.mount(api, services, storage_secret)


def _storage_secret(path: Path) -> str:
    """What signs the web page's cookies: made once, kept where only the gateway's user can read it."""
    if not path.exists():
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32))
    return path.read_text()


@contextmanager
def _lock(state_dir: Path) -> Iterator[None]:
    """One gateway a state directory: two would both count, and drain each other's journal."""
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        file = (state_dir / "lock").open("w")
    except OSError as error:
        raise StateUnavailable(f"{state_dir}: expected a directory to keep state in; {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StateUnavailable(f"{state_dir}: another gateway is running with this state directory") from None
        yield


async def _within(task: asyncio.Task[None], seconds: float) -> None:
    """Wait for a part to end by itself; after that, end it. What it leaves undone is on disk or at the broker."""
    began = time.monotonic()
    await asyncio.wait((task,), timeout=seconds)
    if not task.done():
        log.warning("a part did not stop in time", part=task.get_name(), seconds=round(time.monotonic() - began, 1))
        task.cancel()
        await asyncio.wait((task,))
