"""The data plane of one process: session, pipeline, journal, drain and store, and what they need.

Stopping: no more messages in; what came is committed and acknowledged; the journal is drained for as long as
`drain.stop_within` allows (what is left stays on disk for the next run); then the rest.
"""

from __future__ import annotations

import asyncio
import fcntl
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from gateway.config import Config, Quota, Settings
from gateway.config.credentials import mqtt_password
from gateway.errors import ReplayRefused, StateUnavailable, StoreUnavailable
from gateway.feeds.mqtt_feed import MqttFeed
from gateway.feeds.rejection_counts import RejectionCounter
from gateway.health import Health, Part
from gateway.ingest.loop import Ingest
from gateway.ingest.pipeline import Outcome, Pipeline
from gateway.ingest.quota import QuotaMeter
from gateway.logs import get_logger
from gateway.metrics import Metrics
from gateway.model import Reading, Reason, Rejection
from gateway.mqtt.auto import make_session
from gateway.mqtt.session import Session
from gateway.state import dead_letters, private_files
from gateway.state.database import FILE_NAME, Database
from gateway.state.devices import Device, DeviceRegistry
from gateway.state.journal import Journal
from gateway.state.subscriptions import SubscriptionFile
from gateway.state.workers import home
from gateway.stores.build import make_store
from gateway.stores.drain import Drain
from gateway.timestamps import NS
from gateway.topics import shared, subscriptions

SAVE_EVERY = 2.0
EXPIRE_EVERY = 3600.0
STOP_INGEST_WITHIN = 10.0
IDLE_AFTER = 3.0
SUBSCRIBED = "subscribed.json"

Readings = Mapping[str, Sequence[Reading]]
Show = Callable[[Readings, Sequence[Rejection]], None]

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerSlot:
    """Which of several workers this is. One that is `retiring` takes nothing new: it finishes what an earlier run with
    more workers began."""

    worker: int = 0
    of: int = 1
    retiring: bool = False


class Engine:
    """`async with engine: await engine.run()`. `show` is called with what came and is on disk; it must not block."""

    def __init__(self, config: Config, show: Show, slot: WorkerSlot = WorkerSlot()) -> None:  # it is immutable
        settings = config.settings
        self.config = config
        self.slot = slot
        self._show = show
        self._home = home(config.state_dir, slot.worker)
        self.metrics = Metrics()
        self.database = Database(self._home / FILE_NAME)
        self.journal = Journal(self.database, settings.journal)
        self.registry = DeviceRegistry(self.database, _device_limits(config))
        self.store = make_store(config)
        self._mqtt = settings.mqtt.model_copy(update={"client_id": _client_id(settings, slot)})
        mqtt_password(self._mqtt)  # where it is missing, that is told at the start
        self._subscription_file = SubscriptionFile(self._home / SUBSCRIBED)
        self._has_new_filters = False
        self.session: Session
        self.drain = Drain(
            self.journal, self.store, self.database, settings.drain, settings.dead_letters, self._publish_refused
        )
        self._meters: dict[str, QuotaMeter] = {}
        self._stop = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Open what is on disk.

        Raises:
            StateUnavailable: it cannot be, or another gateway has it.
        """
        async with AsyncExitStack() as stack:
            await asyncio.to_thread(stack.enter_context, lock(self._home))
            await self.database.open()
            stack.push_async_callback(self.database.close)
            await self.journal.open()
            await self.registry.open()
            stack.push_async_callback(self.registry.save)
            await self.store.open()
            stack.push_async_callback(self.store.close)
            filters = self._filters()
            unwanted = await asyncio.to_thread(self._subscription_file.change, filters)
            self.session = make_session(self._mqtt, filters, unwanted)
            self.mqtt_feed = MqttFeed(self.session, self.metrics, readings=self.config.settings.feeds.mqtt)
            self.ingest = self._make_ingest()
            self._rejection_counter = RejectionCounter(self.store, self.registry.knows, self.ingest.measurement_of)
            self._opened = stack.pop_all()
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self._opened.aclose()

    def stop(self) -> None:
        """Begin to stop; `run` returns when all is done."""
        self._stop.set()

    async def run(self) -> None:
        """Run until `stop`, and until what has come is on disk and, as far as time allows, stored."""
        startups = [startup.slug for startup in self.config.startups]
        async with asyncio.TaskGroup() as tasks:
            helpers = [
                tasks.create_task(self.session.run(), name="session"),
                tasks.create_task(self._save_registry(), name="registry-save"),
                tasks.create_task(self._rejection_counter.run(), name="rejection-counts"),
            ]
            if self.slot.worker == 0:
                helpers.append(tasks.create_task(self._expire(), name="expire"))
            ingesting = tasks.create_task(self.ingest.run(), name="ingest")
            draining = tasks.create_task(self.drain.run(startups), name="drain")
            await self._stop.wait()
            log.info("gateway stopping", journaled=self.journal.readings)
            self.session.stop()
            await within(ingesting, STOP_INGEST_WITHIN)
            self.drain.stop()
            await within(draining, self.config.settings.drain.stop_within)
            for helper in helpers:
                helper.cancel()

    def use(self, config: Config) -> None:
        """Take over other startups and rules, between two batches: nothing is dropped, nothing waits."""
        self.config = config
        self.store.assign(config.startups)
        self.ingest.use(Pipeline(config, self._make_meters()), self._meters)
        self.registry.limits = _device_limits(config)
        self.drain.add(startup.slug for startup in config.startups)
        self.session.subscribe(self._filters())
        self._has_new_filters = True

    async def finished(self) -> None:
        """Wait until nothing has come for a while and nothing waits for its store: then a retiring worker may end."""
        seen, since = (-1, -1), time.monotonic()
        while time.monotonic() - since < IDLE_AFTER:
            await asyncio.sleep(IDLE_AFTER / 10)
            state = self.session.state
            now = (self.ingest.batches, state.connections)
            if now != seen or not state.connected or self.ingest.is_busy or self.journal.readings:
                seen, since = now, time.monotonic()

    async def replay(self, ident: int) -> Sequence[Reason]:
        """Put one of this worker's dead letters through again; the reasons against it, none where it was accepted.

        Raises:
            ReplayRefused: it is gone, or its startup is.
        """
        letter = await self.database.read(lambda connection: dead_letters.get(connection, ident))
        if letter is None:
            raise ReplayRefused(f"dead letter {ident} is gone: it was replayed, or made room for newer ones")
        outcome = await self.ingest.replay(letter)
        return [reason for rejection in outcome.rejections for reason in rejection.reasons]

    def devices(self, startup: str) -> list[Device]:
        """The devices of a startup, sorted by name."""
        return self.registry.devices(startup)

    def health(self) -> Health:
        """What works and what does not, in words."""
        is_full = "it is full: messages wait at the broker until the store takes readings again"
        parts = (
            Part("broker", self.session.state.problem),
            Part("disk", self.ingest.problem),
            Part("journal", is_full if self.journal.is_full else ""),
        )
        return Health(parts, {slug: Part("store", state.problem) for slug, state in self.drain.states.items()})

    # ------------------------------------------------------------------ what it is made of

    def _filters(self) -> tuple[str, ...]:
        plain, group = _plain_filters(self.config), _group(self.config.settings, self.slot)
        if self.slot.retiring:
            return ()
        return shared(plain, group) if group else plain

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
            quota = _part_of(startup.quota, self.slot.of)
            known = self._meters.get(startup.slug)
            if known is not None:
                known.quota = quota
                continue
            devices = (device.device for device in self.registry.devices(startup.slug) if device.accepted)
            self._meters[startup.slug] = QuotaMeter(quota, devices, self.registry.series(startup.slug))
        return self._meters

    def _publish(self, outcome: Outcome) -> None:
        self._show(outcome.readings, outcome.rejections)
        for startup, readings in outcome.readings.items():
            self.mqtt_feed.publish_readings(startup, readings)
        self.mqtt_feed.publish_rejections(outcome.rejections)
        self._rejection_counter.add(outcome.rejections)

    def _publish_refused(self, rejections: list[Rejection]) -> None:
        self.metrics.rejected(rejections)
        self._show({}, rejections)
        self.mqtt_feed.publish_rejections(rejections)
        self._rejection_counter.add(rejections)

    async def _save_registry(self) -> None:
        while True:
            await asyncio.sleep(SAVE_EVERY)
            try:
                await self.registry.save()
                await self._remember_filters()
            except StateUnavailable as error:
                log.warning("devices not saved", problem=str(error), next="trying again")

    async def _remember_filters(self) -> None:
        """After a reload, so that a later run knows what the session may have."""
        if not self._has_new_filters:
            return
        self._has_new_filters = False
        try:
            await asyncio.to_thread(self._subscription_file.change, self._filters())
        except StateUnavailable:
            self._has_new_filters = True
            raise

    async def _expire(self) -> None:
        """Every hour, forget what is older than its startup's retention."""
        while True:
            for startup in self.config.startups:
                try:
                    await self.store.expire(startup.slug, time.time_ns() - int(startup.retention * NS))
                except StoreUnavailable as error:
                    log.warning("old readings not deleted", startup=startup.slug, problem=str(error))
            await asyncio.sleep(EXPIRE_EVERY)


def _client_id(settings: Settings, slot: WorkerSlot) -> str:
    return f"{settings.mqtt.client_id}-{slot.worker}" if slot.worker else settings.mqtt.client_id


def _group(settings: Settings, slot: WorkerSlot) -> str | None:
    """The group whose members share the messages; None where one session gets them all."""
    return settings.mqtt.share or (_own_group(settings) if slot.of > 1 else None)


def _own_group(settings: Settings) -> str:
    return re.sub(r"[/+#\0]", "-", settings.mqtt.client_id)


def _plain_filters(config: Config) -> tuple[str, ...]:
    return subscriptions(rule.template for startup in config.startups for rule in startup.topics.values())


def _part_of(quota: Quota, workers: int) -> Quota:
    """A worker's part of the rate: the broker deals out the messages evenly."""
    return quota.model_copy(update={"messages": quota.messages / workers, "burst": max(1, quota.burst // workers)})


def _device_limits(config: Config) -> dict[str, int]:
    return {startup.slug: startup.quota.devices for startup in config.startups}


@contextmanager
def lock(directory: Path) -> Iterator[None]:
    """One process a state directory: two would both count, and drain each other's journal."""
    try:
        private_files.make_directory(directory)
        file = (directory / "lock").open("w")
    except OSError as error:
        raise StateUnavailable(f"{directory}: expected a directory to keep state in; {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StateUnavailable(f"{directory}: another gateway is running with this state directory") from None
        yield


async def within(task: asyncio.Task[None], seconds: float) -> None:
    """Wait for a part to end by itself; after that, end it. What it leaves undone is on disk or at the broker."""
    began = time.monotonic()
    await asyncio.wait((task,), timeout=seconds)
    if not task.done():
        log.warning("a part did not stop in time", part=task.get_name(), seconds=round(time.monotonic() - began, 1))
        task.cancel()
        await asyncio.wait((task,))
