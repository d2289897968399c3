"""The front of a gateway with several workers: starts them, starts again those that end, and serves HTTP for all.

It takes no messages itself. A worker that an earlier run had and this one has not is started once more to leave: it
takes what the broker still has for it, stores what its journal holds, and its session is given up.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path

from prometheus_client.core import Metric

from gateway.app import STOP_WEB_WITHIN, keep_settings
from gateway.books import LEFT, WORKERS, Books, home, leaving
from gateway.config import Config
from gateway.engine import STOP_INGEST_WITHIN, lock, within
from gateway.errors import Unreplayable
from gateway.feeds.auth import Tokens
from gateway.feeds.health import Health
from gateway.feeds.live import Live
from gateway.feeds.services import Services
from gateway.logs import get_logger
from gateway.metrics import by_worker
from gateway.model import Reason
from gateway.mqtt.session import pauses
from gateway.reload import Reloader
from gateway.site import make_site
from gateway.stores.build import make_store
from gateway.web import Web
from gateway.workers.crew import Crew
from gateway.workers.link import Link
from gateway.workers.messages import Answer, Ask, Report, Shown, Start

REPLAY_WITHIN = 20.0
MEASURED_WITHIN = 5.0
LASTING = 30.0

log = get_logger(__name__)


class Front:
    """`run` is all it does."""

    def __init__(self, config: Config, tokens: Tokens, directory: Path, count: int) -> None:
        self._config = config
        self._directory = directory
        self._count = count
        self._books = Books(config.state_dir)
        self._live = Live(config.settings.feeds.kept)
        self._store = make_store(config)
        self._crew = Crew()
        self._links: dict[int, Link] = {}
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._problems = dict.fromkeys(range(count), "starting")
        self._numbers = itertools.count()
        self._asked: dict[int, tuple[int, asyncio.Future[Answer]]] = {}
        self._reloader = Reloader(directory, self._use)
        self._stop = asyncio.Event()
        self._services = Services(
            config,
            tokens,
            self._store,
            self._live,
            self._books,
            self._crew.devices,
            self._health,
            self._measured,
            self._replay,
        )

    def stop(self) -> None:
        """Begin to stop; `run` returns when all workers have ended."""
        self._stop.set()

    def reload_now(self) -> None:
        """Read the configuration again, as SIGHUP asks; the workers do the same."""
        self._reloading = asyncio.ensure_future(self._reloader.now())
        self._signal(signal.SIGHUP)

    async def run(self, started: Callable[[Web], None] = lambda _web: None) -> None:
        """Run until `stop`.

        Raises:
            AddressInUse: at the start.
        """
        async with AsyncExitStack() as stack:
            state_dir = self._config.state_dir
            await asyncio.to_thread(stack.enter_context, lock(state_dir / WORKERS))
            former = await asyncio.to_thread(self._former)
            web = stack.enter_context(Web(self._config.settings.http))
            await self._store.open()
            stack.push_async_callback(self._store.close)
            site = await asyncio.to_thread(make_site, self._services)
            log.info("gateway started", http=web.url, startups=len(self._config.startups), workers=self._count)
            started(web)
            async with asyncio.TaskGroup() as tasks:
                serving = tasks.create_task(web.run(site), name="web")
                reloading = tasks.create_task(self._reloader.run(), name="reload")
                keeping = [
                    *(tasks.create_task(self._keep(worker), name=f"worker-{worker}") for worker in range(self._count)),
                    *(tasks.create_task(self._see_off(worker), name=f"leaving-{worker}") for worker in former),
                ]
                await self._stop.wait()
                reloading.cancel()
                log.info("gateway stopping")
                self._signal(signal.SIGTERM)
                limit = self._config.settings.drain.stop_within + STOP_INGEST_WITHIN + STOP_WEB_WITHIN
                await asyncio.wait(keeping, timeout=limit)
                self._signal(signal.SIGKILL)
                web.stop()
                await within(serving, STOP_WEB_WITHIN)
                for task in keeping:
                    task.cancel()
        log.info("gateway stopped")

    # ------------------------------------------------------------------ the workers

    def _former(self) -> list[int]:
        """The workers of an earlier run that this one has not, and that have not left yet."""
        for worker in range(self._count):
            (home(self._config.state_dir, worker) / LEFT).unlink(missing_ok=True)
        return leaving(self._config.state_dir, self._count)

    async def _keep(self, worker: int) -> None:
        """Run a worker, and again when it ends, until the gateway stops."""
        waits = pauses()
        while not self._stop.is_set():
            began = time.monotonic()
            status = await self._try_to_run(worker)
            if self._stop.is_set():
                return
            self._problems[worker] = f"it ended with {status} and is started again"
            log.error("worker ended", worker=worker, status=status, next="it is started again; see its log for why")
            if time.monotonic() - began > LASTING:
                waits = pauses()
            await self._stopped_within(next(waits))

    async def _see_off(self, worker: int) -> None:
        """Let a worker of an earlier run finish, and note that it has."""
        log.info("worker leaves", worker=worker, next="what the broker and its journal hold for it is taken first")
        waits = pauses()
        while status := await self._try_to_run(worker, "leaves"):
            if self._stop.is_set():
                return
            self._problems[worker] = f"it leaves, ended with {status} before it was done, and is started again"
            log.error("worker could not leave", worker=worker, status=status, next="it is started again")
            await self._stopped_within(next(waits))
        if not self._stop.is_set():
            self._problems.pop(worker, None)
            await asyncio.to_thread((home(self._config.state_dir, worker) / LEFT).touch)
            log.info("worker has left", worker=worker)

    async def _stopped_within(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()

    async def _try_to_run(self, worker: int, *more: str) -> int | str:
        """Run a worker until it ends; its exit status, or why it could not be started."""
        try:
            return await self._run_worker(worker, *more)
        except OSError as error:
            return str(error)

    async def _run_worker(self, worker: int, *more: str) -> int:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "gateway.workers.worker", str(self._directory), str(theirs.fileno())),
                *(str(worker), str(self._count), *more),
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is ours to handle: we stop the workers in order
            )
            link = await Link.over(ours.dup())
        self._processes[worker], self._links[worker] = process, link
        link.send(Start(self._config))
        if self._stop.is_set():
            self._signal(signal.SIGTERM)
        try:
            await self._serve(worker, link)
            with suppress(ProcessLookupError):
                process.terminate()  # where it has said what we do not know, it still runs
            return await process.wait()
        finally:
            await self._let_go(worker)
            if process.returncode is None:
                process.kill()

    async def _let_go(self, worker: int) -> None:
        """The worker has ended: nothing of it holds any more, and nobody shall wait for its answers."""
        del self._processes[worker]
        self._crew.lost(worker)
        for of, asked in list(self._asked.values()):
            if of == worker and not asked.done():
                asked.set_exception(Unreplayable(f"worker {worker} has ended"))
        await self._links.pop(worker).close()

    async def _serve(self, worker: int, link: Link) -> None:
        """Take in what a worker says, until it is gone."""
        async for message in link.messages():
            match message:
                case Shown():
                    for startup, missed in message.missed.items():
                        self._live.feed(startup).skip(missed)
                    self._live.publish(message.readings, message.rejections)
                case Report():
                    self._problems[worker] = ""
                    self._crew.report(worker, message.health, list(message.devices))
                case Answer():
                    _, asked = self._asked.pop(message.number, (worker, None))
                    if asked is not None and not asked.done():
                        asked.set_result(message)

    def _signal(self, number: signal.Signals) -> None:
        for process in self._processes.values():
            with suppress(ProcessLookupError):
                process.send_signal(number)

    # ------------------------------------------------------------------ the services

    def _use(self, config: Config, tokens: Tokens) -> None:
        self._config = keep_settings(self._config, config)
        self._store.assign(config.startups)
        self._services.config, self._services.tokens = self._config, tokens
        log.info("configuration reloaded", startups=len(config.startups))

    def _health(self) -> Health:
        return self._crew.health(self._problems)

    async def _measured(self) -> Sequence[Metric]:
        links = [worker for worker in self._links if self._crew.has_reported(worker)]
        answers = await asyncio.gather(*(self._ask(worker) for worker in links), return_exceptions=True)
        return by_worker(
            {worker: one.families for worker, one in zip(links, answers, strict=True) if isinstance(one, Answer)}
        )

    async def _replay(self, ident: int) -> Sequence[Reason]:
        worker, letter = await asyncio.to_thread(self._books.place, ident)
        if worker not in self._links:
            raise Unreplayable(
                f"dead letter {ident} is kept by worker {worker}, which does not run: run at least {worker + 1} workers"
            )
        answer = await self._ask(worker, letter)
        if answer.problem:
            raise Unreplayable(answer.problem)
        return answer.reasons

    async def _ask(self, worker: int, letter: int | None = None) -> Answer:
        number = next(self._numbers)
        asked: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._asked[number] = worker, asked
        try:
            self._links[worker].send(Ask(number, letter))
            async with asyncio.timeout(REPLAY_WITHIN if letter is not None else MEASURED_WITHIN):
                return await asked
        except TimeoutError:
            raise Unreplayable(f"worker {worker} does not answer; is the machine overloaded?") from None
        finally:
            self._asked.pop(number, None)
