"""The data plane of one process: session, pipeline, journal, drain and store, and what they need.

Stopping: the session takes no more messages; those that it has are committed and acknowledged; the journal is drained
for as long as `drain.stop_within` allows (the rest stays on disk for the next run); then everything else ends.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from gateway.config import Config, Quota, Settings
from gateway.config.credentials import mqtt_password
from gateway.errors import ReplayRefused, StateUnavailable, StoreUnavailable
from gateway.feeds.fan_out import FanOut
from gateway.feeds.mqtt_feed import MqttFeed
from gateway.feeds.rejection_counts import RejectionCounter
from gateway.health import Health, Part
from gateway.ingest.loop import GONE, Ingest
from gateway.ingest.pipeline import Pipeline
from gateway.ingest.quota import QuotaMeter
from gateway.logs import get_logger
from gateway.metrics import Metrics
from gateway.model import Listener, Reason
from gateway.mqtt.auto import make_session
from gateway.mqtt.broker_watch import BrokerWatch
from gateway.mqtt.session import Session
from gateway.state import dead_letters
from gateway.state.devices import Device
from gateway.state.subscription_file import SubscriptionFile
from gateway.state.worker_state import WorkerState
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

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerSlot:
    """The number of this worker among several. One that is `retiring` takes nothing new: it finishes what an earlier
    run with more workers began."""

    worker: int = 0
    of: int = 1
    retiring: bool = False


class Engine:
    """`async with engine: await engine.run()`. Its own listeners and `listeners` observe every outcome."""

    def __init__(
        self,
        config: Config,
        listeners: Sequence[Listener],
        slot: WorkerSlot = WorkerSlot(),  # it is immutable
    ) -> None:
        settings = config.settings
        directory = home(config.state_dir, slot.worker)
        self.config = config
        self.slot = slot
        self.metrics = Metrics()
        self._broker_watch = BrokerWatch(settings.mqtt, self.metrics)
        self.state = WorkerState.of(directory, settings, _device_limits(config))
        self.store = make_store(config)
        self.session: Session
        self.ingest: Ingest
        self.drain: Drain
        self._listeners = listeners
        client_id = f"{settings.mqtt.client_id}-{slot.worker}" if slot.worker else settings.mqtt.client_id
        self._mqtt = settings.mqtt.model_copy(update={"client_id": client_id})
        mqtt_password(self._mqtt)  # a missing password is reported at the start
        self._subscription_file = SubscriptionFile(directory / SUBSCRIBED)
        self._has_new_filters = False
        self._meters: dict[str, QuotaMeter] = {}
        self._stop = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Open the state and the store, and put the parts together.

        Raises:
            StateUnavailable: the state cannot be opened, or another gateway holds it.
        """
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.state.opened())
            await self.store.open()
            stack.push_async_callback(self.store.close)
            filters = self._filters()
            unwanted = await asyncio.to_thread(self._subscription_file.change, filters)
            self.session = make_session(self._mqtt, filters, unwanted)
            self._compose()
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
        """Run until `stop`, and until all received messages are on disk and, as far as time allows, stored."""
        startups = [startup.slug for startup in self.config.startups]
        async with asyncio.TaskGroup() as tasks:
            helpers = [
                tasks.create_task(self.session.run(), name="session"),
                tasks.create_task(self._save_registry(), name="registry-save"),
                tasks.create_task(self._fan_out.run(), name="listeners"),
            ]
            if self.slot.worker == 0:
                helpers.append(tasks.create_task(self._expire(), name="expire"))
                helpers.append(tasks.create_task(self._broker_watch.run(), name="broker-watch"))
            ingesting = tasks.create_task(self.ingest.run(), name="ingest")
            draining = tasks.create_task(self.drain.run(startups), name="drain")
            await self._stop.wait()
            log.info("gateway stopping", journaled=self.state.journal.readings)
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
        self.ingest.use(Pipeline(config, self._make_meters()))
        self.state.registry.limits = _device_limits(config)
        self.drain.add(startup.slug for startup in config.startups)
        self.session.subscribe(self._filters())
        self._has_new_filters = True

    async def finished(self) -> None:
        """Wait until nothing has arrived for a while and nothing waits for its store, so that the worker may retire."""
        seen, since = (-1, -1), time.monotonic()
        while time.monotonic() - since < IDLE_AFTER:
            await asyncio.sleep(IDLE_AFTER / 10)
            state = self.session.state
            now = (self.ingest.batches, state.connections)
            if now != seen or not state.connected or self.ingest.is_busy or self.state.journal.readings:
                seen, since = now, time.monotonic()

    async def replay(self, ident: int) -> Sequence[Reason]:
        """Process one of this worker's dead letters again; return the reasons against it, none if it is accepted.

        Raises:
            ReplayRefused: it no longer exists, or its startup is no longer configured.
        """
        dead_letter = await self.state.database.read(lambda connection: dead_letters.get(connection, ident))
        if dead_letter is None:
            raise ReplayRefused(GONE.format(ident))
        outcome = await self.ingest.replay(dead_letter)
        return [reason for rejection in outcome.rejections for reason in rejection.reasons]

    def devices(self, startup: str) -> list[Device]:
        """Return the devices of a startup, sorted by name."""
        return self.state.registry.devices(startup)

    def health(self) -> Health:
        """Return the state of each part, with its problem in words."""
        is_full = "it is full: messages wait at the broker until the store accepts readings again"
        parts = (
            Part("broker", self.session.state.problem),
            Part("disk", self.ingest.problem),
            Part("journal", is_full if self.state.journal.is_full else ""),
        )
        stores = {slug: Part("store", state.problem) for slug, state in self.drain.states.items()}
        return Health(parts, stores, queues=Part("queues", self._broker_watch.problem))

    # ------------------------------------------------------------------ composition

    def _compose(self) -> None:
        settings = self.config.settings
        self._fan_out = FanOut(
            [
                self.metrics,
                *self._listeners,
                MqttFeed(self.session, self.metrics, readings=settings.feeds.mqtt),
                RejectionCounter(
                    self.store, self.state.registry.knows, lambda topic: self.ingest.measurement_of(topic)
                ),
            ],
            self.metrics,
        )
        pipeline = Pipeline(self.config, self._make_meters())
        self.ingest = Ingest(self.session, pipeline, self.state, self.metrics, self._fan_out)
        self.drain = Drain(self.state, self.store, settings.drain, self._fan_out)

    def _filters(self) -> tuple[str, ...]:
        if self.slot.retiring:
            return ()
        plain = subscriptions(rule.template for startup in self.config.startups for rule in startup.topics.values())
        group = _group(self.config.settings, self.slot)
        return shared(plain, group) if group else plain

    def _make_meters(self) -> dict[str, QuotaMeter]:
        """Return a meter for each startup; a meter from before a reload keeps its counts."""
        for startup in self.config.startups:
            quota = _part_of(startup.quota, self.slot.of)
            known = self._meters.get(startup.slug)
            if known is not None:
                known.quota = quota
                continue
            registry = self.state.registry
            devices = (device.device for device in registry.devices(startup.slug) if device.accepted)
            self._meters[startup.slug] = QuotaMeter(quota, devices, registry.series(startup.slug))
        return self._meters

    async def _save_registry(self) -> None:
        while True:
            await asyncio.sleep(SAVE_EVERY)
            try:
                await self.state.registry.save()
                await self._remember_filters()
            except StateUnavailable as error:
                log.warning("devices not saved", problem=str(error), next="trying again")

    async def _remember_filters(self) -> None:
        """After a reload, write down the filters that the session may have, for a later run."""
        if not self._has_new_filters:
            return
        self._has_new_filters = False
        try:
            await asyncio.to_thread(self._subscription_file.change, self._filters())
        except StateUnavailable:
            self._has_new_filters = True
            raise

    async def _expire(self) -> None:
        """Delete readings older than the retention of their startup, every hour."""
        while True:
            for startup in self.config.startups:
                try:
                    await self.store.expire(startup.slug, time.time_ns() - int(startup.retention * NS))
                except StoreUnavailable as error:
                    log.warning("old readings not deleted", startup=startup.slug, problem=str(error))
            await asyncio.sleep(EXPIRE_EVERY)


def _group(settings: Settings, slot: WorkerSlot) -> str | None:
    """Return the group whose members share the messages; None where one session gets them all."""
    if settings.mqtt.share or slot.of == 1:
        return settings.mqtt.share
    return re.sub(r"[/+#\0]", "-", settings.mqtt.client_id)  # a group is one level of a filter


def _part_of(quota: Quota, workers: int) -> Quota:
    """Return a worker's part of the rate: the broker distributes the messages evenly."""
    return quota.model_copy(update={"messages": quota.messages / workers, "burst": max(1, quota.burst // workers)})


def _device_limits(config: Config) -> dict[str, int]:
    return {startup.slug: startup.quota.devices for startup in config.startups}


async def within(task: asyncio.Task[None], seconds: float) -> None:
    """Wait for a part to end; cancel it if that takes too long. What it leaves undone is on disk or at the broker."""
    began = time.monotonic()
    await asyncio.wait((task,), timeout=seconds)
    if not task.done():
        log.warning("a part did not stop in time", part=task.get_name(), seconds=round(time.monotonic() - began, 1))
        task.cancel()
        await asyncio.wait((task,))
