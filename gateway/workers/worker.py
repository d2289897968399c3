"""One worker: an engine in a process of its own, and its line to the front.

    python -m gateway.workers.worker CONFIG_DIR FD WORKER OF [leaves]

It stops at SIGTERM, when the front is gone, and, where it leaves, when nothing is left to do.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from gateway import logs
from gateway.app import keep_settings
from gateway.config import Config
from gateway.engine import Engine, Seat
from gateway.errors import GatewayError
from gateway.feeds.auth import Tokens
from gateway.feeds.health import Health, Part
from gateway.interpreter import set_up_interpreter
from gateway.reload import Reloader
from gateway.workers.link import Link
from gateway.workers.messages import Answer, Ask, Report, Start
from gateway.workers.showing import Showing

SHOW_EVERY = 0.03
REPORT_EVERY = 1.0
REPLAY_WITHIN = 15.0


class Worker:
    """Runs one engine and tells the front how it is."""

    def __init__(self, config: Config, directory: Path, seat: Seat) -> None:
        self._config = config
        self._showing = Showing(config.settings.feeds.kept)
        self._reloader = Reloader(directory, self._use)
        self.engine = Engine(config, self._showing.add, seat)

    async def run(self, link: Link) -> None:
        """Until it is stopped, or the front is gone."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.engine.stop)
        async with self.engine, asyncio.TaskGroup() as tasks:
            helpers = [
                tasks.create_task(self._listen(link, tasks), name="link"),
                tasks.create_task(self._tell(link), name="show"),
                tasks.create_task(self._report(link), name="report"),
                tasks.create_task(self._reloader.run(), name="reload"),
            ]
            if self.engine.seat.leaves:
                helpers.append(tasks.create_task(self._leave(), name="leave"))
            loop.add_signal_handler(signal.SIGHUP, lambda: tasks.create_task(self._reloader.now()))
            set_up_interpreter()
            await self.engine.run()
            for helper in helpers:
                helper.cancel()
        await link.close()

    def _use(self, config: Config, _tokens: Tokens) -> None:
        self._config = keep_settings(self._config, config)
        self.engine.use(self._config)

    async def _listen(self, link: Link, tasks: asyncio.TaskGroup) -> None:
        async for message in link.messages():
            if isinstance(message, Ask):
                tasks.create_task(self._answer(link, message), name="answer")
        self.engine.stop()  # the front is gone: nobody would start or stop us any more

    async def _answer(self, link: Link, ask: Ask) -> None:
        if ask.letter is None:
            link.send(Answer(ask.number, families=await asyncio.to_thread(self.engine.metrics.families)))
            return
        try:
            async with asyncio.timeout(REPLAY_WITHIN):
                link.send(Answer(ask.number, reasons=await self.engine.replay(ask.letter)))
        except GatewayError as error:
            link.send(Answer(ask.number, problem=str(error)))
        except TimeoutError:
            link.send(Answer(ask.number, problem=f"it could not be journaled within {REPLAY_WITHIN:g} s"))

    async def _tell(self, link: Link) -> None:
        while True:
            await asyncio.sleep(SHOW_EVERY)
            if not link.is_congested and (shown := self._showing.take()):
                link.send(shown)

    async def _report(self, link: Link) -> None:
        while True:
            found = self.engine.health()
            health = Health(found.parts, dict(found.stores), Part("config", self._reloader.problem))
            if not link.is_congested:
                link.send(Report(health, self.engine.registry.changed()))
            await asyncio.sleep(REPORT_EVERY)

    async def _leave(self) -> None:
        await self.engine.finished()
        self.engine.session.forget()
        self.engine.stop()


def main(arguments: Sequence[str]) -> int:
    """Run a worker; the exit status. What goes wrong at the start is in the log."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to reload
    directory, descriptor, worker, of = Path(arguments[0]), *map(int, arguments[1:4])
    seat = Seat(worker, of, leaves="leaves" in arguments[4:])

    async def serve() -> None:
        link = await Link.over(socket.socket(fileno=descriptor))
        start = await anext(link.messages(), None)
        if isinstance(start, Start):
            logs.configure(start.config.settings.log, worker=worker)
            await Worker(start.config, directory, seat).run(link)

    status = 0
    try:
        asyncio.run(serve())
    except* GatewayError as group:
        status = 1
        for error in _flat(group):
            logs.get_logger(__name__).error("worker cannot run", problem=str(error))
    return status


def _flat(group: BaseExceptionGroup) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _flat(error)
        else:
            yield error


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(main(sys.argv[1:]))
