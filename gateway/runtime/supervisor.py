"""Supervisor of a gateway with several workers: starts and restarts them, and serves HTTP for all. A worker that
hangs is killed first: it holds its state, and whoever took that over would be a second owner.

It takes no messages itself. A worker that only an earlier run had is started once more, to retire: it takes the
messages that the broker still holds for it, stores what is in its journal, and ends its session.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any

from prometheus_client.core import Metric

from gateway.api.auth import Tokens
from gateway.api.limits import Limits
from gateway.api.server import HttpServer
from gateway.api.services import Services
from gateway.backoff import LASTING, pauses
from gateway.config import Config, Loader
from gateway.errors import ReplayImpossible, StateUnavailable
from gateway.feeds.live_ring import LiveFeeds
from gateway.health import Health, Part
from gateway.logs import get_logger
from gateway.metrics import by_worker
from gateway.model import Reason
from gateway.runtime.assignment import AssignmentFile, assign
from gateway.runtime.engine import STOP_INGEST_WITHIN, within
from gateway.runtime.gateway import STOP_WEB_WITHIN, keep_settings
from gateway.runtime.http_application import make_application
from gateway.runtime.pulse import Pulse, kill_if_hung
from gateway.runtime.reload import Reloader
from gateway.runtime.worker_channel import WorkerChannel
from gateway.runtime.worker_messages import Changed, LiveEvents, Reply, Report, Use
from gateway.runtime.worker_reports import WorkerReports
from gateway.runtime.worker_requests import WorkerRequests
from gateway.state import private_files
from gateway.state.lock import locked
from gateway.state.reader import StateReader
from gateway.state.workers import RETIRED, WORKERS, home, retiring
from gateway.stores.build import make_store

REPLAY_WITHIN = 20.0

log = get_logger(__name__)


class Supervisor:
    """`run` is all it does."""

    def __init__(self, config: Config, tokens: Tokens, loader: Loader, count: int) -> None:
        self._config = config
        self._count = count
        self._assignment_file = AssignmentFile(config.state_dir / WORKERS / "assignment.json")
        self._assigned: dict[str, int] = {}
        self._state = StateReader(config.state_dir)
        self._live = LiveFeeds(config.settings.feeds.kept)
        self._store = make_store(config)
        self._reports = WorkerReports()
        self._channels: dict[int, WorkerChannel] = {}
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._problems = dict.fromkeys(range(count), "starting")
        self._requests = WorkerRequests(self._channels)
        self._reloader = Reloader(loader, self._use, self._state)
        self._stop = asyncio.Event()
        self._services = Services(
            config=config,
            tokens=tokens,
            store=self._store,
            live=self._live,
            state=self._state,
            devices=self._reports.devices,
            health=self._health,
            measured=self._measured,
            replay=self._replay,
            forget_type=self._forget_type,
            release=self._release,
            limits=Limits(self._store.computing),
        )

    def stop(self) -> None:
        """Begin to stop; `run` returns when all workers have ended."""
        self._stop.set()

    def reload_now(self) -> None:
        """Read the configuration again, on SIGHUP."""
        self._reloading = asyncio.ensure_future(self._reloader.now())

    async def run(self, started: Callable[[HttpServer], None] = lambda _web: None) -> None:
        """Run until `stop`.

        Raises:
            StateUnavailable, AddressUnavailable, CertificateUnusable: at the start.
        """
        async with AsyncExitStack() as stack:
            state_dir = self._config.state_dir
            await asyncio.to_thread(stack.enter_context, locked(state_dir))
            await asyncio.to_thread(private_files.make_directory, state_dir / WORKERS)
            retired = await asyncio.to_thread(self._find_retiring)
            await asyncio.to_thread(self._assign, self._assignment_file.read())
            server = stack.enter_context(HttpServer(self._config.settings.http))
            await self._store.open()
            stack.push_async_callback(self._store.close)
            application = await asyncio.to_thread(make_application, self._services)
            log.info("gateway started", http=server.url, startups=len(self._config.startups), workers=self._count)
            started(server)
            async with asyncio.TaskGroup() as tasks:
                serving = tasks.create_task(server.run(application), name="web")
                reloading = tasks.create_task(self._reloader.run(), name="reload")
                keeping = [
                    *(tasks.create_task(self._keep(worker), name=f"worker-{worker}") for worker in range(self._count)),
                    *(tasks.create_task(self._retire(worker), name=f"retire-{worker}") for worker in retired),
                ]
                await self._stop.wait()
                reloading.cancel()
                log.info("gateway stopping")
                self._signal(signal.SIGTERM)
                limit = self._config.settings.drain.stop_within + STOP_INGEST_WITHIN + STOP_WEB_WITHIN
                await asyncio.wait(keeping, timeout=limit)
                self._signal(signal.SIGKILL)
                server.stop()
                await within(serving, STOP_WEB_WITHIN)
                for task in keeping:
                    task.cancel()
        log.info("gateway stopped")

    # ------------------------------------------------------------------ the workers

    def _find_retiring(self) -> list[int]:
        """Return the workers of an earlier run that are no longer configured and have not retired yet."""
        for worker in range(self._count):
            (home(self._config.state_dir, worker) / RETIRED).unlink(missing_ok=True)
        return retiring(self._config.state_dir, self._count)

    async def _keep(self, worker: int) -> None:
        """Run a worker, and run it again when it ends, until the gateway stops."""
        waits = pauses()
        while not self._stop.is_set():
            began = time.monotonic()
            status = await self._try_to_run(worker)
            if self._stop.is_set():
                return
            self._problems[worker] = f"it ended with {status} and is restarted"
            log.error("worker ended", worker=worker, status=status, next="it is restarted; see its log for why")
            if time.monotonic() - began > LASTING:
                waits = pauses()
            await self._stopped_within(next(waits))

    async def _retire(self, worker: int) -> None:
        """Let a worker of an earlier run finish, and note that it has."""
        log.info("worker retires", worker=worker, next="it first processes what the broker and its journal hold for it")
        waits = pauses()
        while status := await self._try_to_run(worker, "retire"):
            if self._stop.is_set():
                return
            self._problems[worker] = f"it was retiring, ended with {status} before it was done, and is restarted"
            log.error("worker did not retire", worker=worker, status=status, next="it is restarted")
            await self._stopped_within(next(waits))
        if not self._stop.is_set():
            self._problems.pop(worker, None)
            try:
                await asyncio.to_thread((home(self._config.state_dir, worker) / RETIRED).touch)
            except OSError as error:
                log.warning(
                    "not noted that a worker has retired",
                    worker=worker,
                    problem=str(error),
                    next="it retires again at the next start",
                )
            else:
                log.info("worker has retired", worker=worker)

    async def _stopped_within(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()

    async def _try_to_run(self, worker: int, *more: str) -> int | str:
        """Run a worker until it ends; return its exit status, or why it could not be started."""
        try:
            return await self._run_worker(worker, *more)
        except OSError as error:
            return str(error)

    async def _run_worker(self, worker: int, *more: str) -> int:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "gateway.runtime.worker", str(theirs.fileno()), str(worker), *more),
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is ours to handle: we stop the workers in order
            )
            channel = await WorkerChannel.over(ours.dup())
        self._processes[worker], self._channels[worker] = process, channel
        channel.send(self._use_of(worker, None))
        if self._stop.is_set():
            self._signal(signal.SIGTERM)
        pulse = Pulse()
        watching = asyncio.create_task(kill_if_hung(worker, process, pulse), name=f"worker-{worker}-pulse")
        try:
            await self._serve(worker, channel, pulse)
            with suppress(ProcessLookupError):
                process.terminate()  # it still runs where it sent a message that this version does not know
            return await process.wait()
        finally:
            watching.cancel()
            await self._forget(worker)
            if process.returncode is None:
                process.kill()

    async def _forget(self, worker: int) -> None:
        """Drop everything that belongs to a worker that has ended, so that nobody waits for its replies."""
        del self._processes[worker]
        self._reports.lost(worker)
        self._requests.lost(worker)
        await self._channels.pop(worker).close()

    async def _serve(self, worker: int, channel: WorkerChannel, pulse: Pulse) -> None:
        """Handle the messages of a worker, until it ends."""
        async for message in channel.messages():
            pulse.beat()
            match message:
                case LiveEvents():
                    for startup, missed in message.missed.items():
                        self._live.skip(startup, missed)
                    self._live.accepted(message.readings)
                    self._live.rejected(message.rejections)
                case Report():
                    self._problems[worker] = ""
                    self._reports.report(worker, message.health)
                case Changed():
                    self._reports.changed(worker, message.devices)
                case Reply():
                    self._requests.replied(message)

    def _signal(self, number: signal.Signals) -> None:
        for process in self._processes.values():
            with suppress(ProcessLookupError):
                process.send_signal(number)

    def _assign(self, before: Mapping[str, int]) -> None:
        """Assign the startups to the workers, and write it down. Blocking."""
        self._assigned = assign(self._config.served, self._count, before)
        self._assignment_file.write(self._assigned)

    def _use_of(self, worker: int, before: Config | None) -> Use:
        served = frozenset(slug for slug, of in self._assigned.items() if of == worker)
        return Use.of(self._config, before, served)

    # ------------------------------------------------------------------ the services

    def _use(self, config: Config, tokens: Tokens) -> None:
        before, self._config = self._config, keep_settings(self._config, config)
        try:
            self._assign(self._assigned)
        except StateUnavailable as error:
            log.warning("assignment not saved", problem=str(error), next="a restart may move startups between workers")
        for worker, channel in self._channels.items():
            channel.send(self._use_of(worker, before))
        self._store.assign(config.startups)
        self._services.use(self._config, tokens)
        log.info("configuration reloaded", startups=len(config.startups))

    def _health(self) -> Health:
        return self._reports.health(self._problems, Part("config", self._reloader.problem))

    async def _measured(self) -> Sequence[Metric]:
        replies = await self._ask_all()
        return by_worker({worker: one.families for worker, one in replies.items()})

    async def _replay(self, ident: int) -> Sequence[Reason]:
        worker, local = await asyncio.to_thread(self._state.place, ident)
        if worker not in self._channels:
            raise ReplayImpossible(
                f"dead letter {ident} is kept by worker {worker}, which does not run: run at least {worker + 1} workers"
            )
        try:
            reply = await self._requests.ask(worker, REPLAY_WITHIN, dead_letter=local)
        except StateUnavailable as error:
            raise ReplayImpossible(str(error)) from error
        if reply.problem:
            raise ReplayImpossible(reply.problem)
        return reply.reasons

    async def _release(self, startup: str) -> bool:
        replies = await self._ask_all(release=startup)
        return any(reply.released for reply in replies.values())

    async def _forget_type(self, startup: str, measurement: str, name: str) -> int:
        if (worker := self._assigned.get(startup, -1)) not in self._channels:
            raise StateUnavailable(f"the worker of {startup!r} does not run: try again when it does")
        reply = await self._requests.ask(worker, REPLAY_WITHIN, forget=(startup, measurement, name))
        if reply.problem:
            raise StateUnavailable(reply.problem)
        await self._reloader.again()
        return reply.forgotten

    async def _ask_all(self, **asked: Any) -> dict[int, Reply]:
        return await self._requests.ask_all([*filter(self._reports.has_reported, self._channels)], **asked)
