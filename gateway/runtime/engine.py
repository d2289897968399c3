"""Data plane of one process: sessions, pipeline, journal, drain and store, and what they need.

Stopping: the sessions take no more messages; those that it has are committed and acknowledged; the journal is drained
for as long as `drain.stop_within` allows (the rest stays on disk for the next run); then everything else ends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from gateway.config import Config, Startup, TopicRule
from gateway.config.credentials import mqtt_password
from gateway.errors import ReplayImpossible, StateUnavailable, StoreUnavailable
from gateway.feeds.clock_doctor import ClockDoctor
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
from gateway.mqtt.broker_watch import BrokerWatch
from gateway.mqtt.session import Access
from gateway.mqtt.session_plan import SessionPlan, startup_of
from gateway.mqtt.sessions import Sessions
from gateway.state import dead_letters
from gateway.state.devices import Device
from gateway.state.session_file import SessionFile
from gateway.state.worker_state import WorkerState
from gateway.state.workers import home
from gateway.stores.build import make_store
from gateway.stores.drain import Drain
from gateway.timestamps import NS

SAVE_EVERY = 2.0
EXPIRE_EVERY = 3600.0
STOP_INGEST_WITHIN = 10.0
IDLE_CHECK_EVERY = 0.3
SESSIONS = "sessions.json"
NO_RULES: Mapping[str, TopicRule] = {}

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerSlot:
    """Number of this worker, and the startups that it serves; None: all. One that is `retiring` serves none: it
    finishes what an earlier run with more workers began."""

    worker: int = 0
    startups: frozenset[str] | None = None
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
        self.sessions: Sessions
        self.ingest: Ingest
        self.drain: Drain
        self._listeners = listeners
        mqtt_password(settings.mqtt)  # a missing password is reported at the start
        self._session_file = SessionFile(directory / SESSIONS)
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
            self.sessions = await self._make_sessions()
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
                tasks.create_task(self.sessions.run(), name="sessions"),
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
            self.sessions.stop()
            await within(ingesting, STOP_INGEST_WITHIN)
            self.drain.stop()
            await within(draining, self.config.settings.drain.stop_within)
            for helper in helpers:
                helper.cancel()

    def use(self, config: Config, startups: frozenset[str] | None = None) -> None:
        """Take over other startups and rules, between two rounds: nothing is dropped, nothing waits.

        `startups` are those that this worker serves from now on; None: all.
        """
        self.config = config
        self.slot = replace(self.slot, startups=startups)
        self.store.assign(config.startups)
        self.ingest.use(config, self._make_meters())
        self.state.registry.limits = _device_limits(config)
        self._clock_doctor.forget(set(config.by_slug))
        self.metrics.keep_only(config.by_slug)
        self.drain.add(startup.slug for startup in config.startups)
        self.sessions.use(self._plan)

    async def finished(self) -> None:
        """Wait until the sessions of an earlier run have ended and nothing waits for its store, so that the worker may
        retire."""
        while self.sessions.is_retiring or self.ingest.is_busy or self.state.journal.readings:  # noqa: ASYNC110  # three parts
            await asyncio.sleep(IDLE_CHECK_EVERY)

    async def replay(self, ident: int) -> Sequence[Reason]:
        """Process one of this worker's dead letters again; return the reasons against it, none if it is accepted.

        Raises:
            ReplayImpossible: it no longer exists, or its startup is no longer configured.
        """
        dead_letter = await self.state.database.read(lambda connection: dead_letters.get(connection, ident))
        if dead_letter is None:
            raise ReplayImpossible(GONE.format(ident))
        outcome = await self.ingest.replay(dead_letter)
        return [reason for rejection in outcome.rejections for reason in rejection.reasons]

    def devices(self, startup: str) -> list[Device]:
        """Return the devices of a startup, sorted by name."""
        return self.state.registry.devices(startup)

    def health(self) -> Health:
        """Return the state of each part, with its problem in words."""
        is_full = "it is full: messages wait at the broker until the store accepts readings again"
        parts = (
            Part("broker", self.sessions.problem),
            Part("disk", self.ingest.problem),
            Part("journal", is_full if self.state.journal.is_full else ""),
        )
        served = self._served
        stores = {
            slug: Part("store", state.problem)
            for slug, state in self.drain.states.items()
            if state.problem or slug in served
        }
        sessions = {startup_of(name): Part("session", problem) for name, problem in self.sessions.problems.items()}
        return Health(parts, stores, queues=Part("queues", self._broker_watch.problem), sessions=sessions)

    # ------------------------------------------------------------------ composition

    def _compose(self) -> None:
        settings, registry = self.config.settings, self.state.registry

        def measurement_of(topic: str) -> str:
            return self.ingest.measurement_of(topic)

        self._clock_doctor = ClockDoctor(registry, self._rules_of, measurement_of)
        self._fan_out = FanOut(
            [
                self.metrics,
                *self._listeners,
                MqttFeed(self.sessions, self.metrics, readings=settings.feeds.mqtt),
                RejectionCounter(self.store, registry.knows, measurement_of),
                self._clock_doctor,
            ],
            self.metrics,
        )
        pipeline = Pipeline(self.config, self._make_meters())
        self.ingest = Ingest(self.sessions, pipeline, self.state, self.metrics, self._fan_out)
        self.drain = Drain(self.state, self.store, settings.drain, self._fan_out)

    def _rules_of(self, startup: str) -> Mapping[str, TopicRule]:
        known = self.config.by_slug.get(startup)
        return known.topics if known else NO_RULES

    async def _make_sessions(self) -> Sessions:
        known = await asyncio.to_thread(self._session_file.read)
        sessions = Sessions(
            Access.of(self.config.settings.mqtt), self._plan, known, worker=self.slot.worker, host=self.config.host
        )
        await asyncio.to_thread(self._session_file.write, sessions.filters())
        return sessions

    @property
    def _served(self) -> frozenset[str]:
        if self.slot.retiring:
            return frozenset()
        of_host = frozenset(startup.slug for startup in self.config.served)
        return of_host if self.slot.startups is None else self.slot.startups & of_host

    @property
    def _plan(self) -> SessionPlan:
        return SessionPlan.of(self.config, self._served, self.slot.worker)

    def _make_meters(self) -> dict[str, QuotaMeter]:
        """Return a meter for each startup; a meter from before a reload keeps its counts, that of a startup which was
        removed is dropped."""
        for startup in self.config.startups:
            if known := self._meters.get(startup.slug):
                known.use(self.config.quota_of(startup))
                continue
            registry = self.state.registry
            devices = (device.device for device in registry.devices(startup.slug) if device.accepted)
            quota, series = self.config.quota_of(startup), registry.series(startup.slug)
            self._meters[startup.slug] = QuotaMeter(quota, devices, series)
        self._meters = {startup.slug: self._meters[startup.slug] for startup in self.config.startups}
        return dict(self._meters)

    async def _save_registry(self) -> None:
        while True:
            await asyncio.sleep(SAVE_EVERY)
            try:
                await self.state.registry.save()
                await asyncio.to_thread(self._session_file.write, self.sessions.filters())
            except StateUnavailable as error:
                log.warning("devices not saved", problem=str(error), next="trying again")

    async def _expire(self) -> None:
        """Delete readings older than the retention of their startup, every hour; none waits for another."""
        under_way: dict[str, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as tasks:
            while True:
                under_way = {slug: task for slug, task in under_way.items() if not task.done()}
                for startup in self.config.startups:
                    if startup.slug not in under_way:
                        expiring = self._expire_one(startup)
                        under_way[startup.slug] = tasks.create_task(expiring, name=f"expire-{startup.slug}")
                await asyncio.sleep(EXPIRE_EVERY)

    async def _expire_one(self, startup: Startup) -> None:
        try:
            await self.store.expire(startup.slug, time.time_ns() - int(startup.retention * NS))
        except StoreUnavailable as error:
            log.warning("old readings not deleted", startup=startup.slug, problem=str(error))


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
