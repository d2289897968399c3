"""One worker: an engine in a process of its own, and its channel to the supervisor.

    python -m gateway.runtime.worker FD WORKER [retire]

It stops at SIGTERM, when the supervisor has ended and, if it retires, when nothing is left to do.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress

from gateway import logs
from gateway.config import Config
from gateway.errors import GatewayError
from gateway.runtime.descriptors import raise_descriptor_limit
from gateway.runtime.engine import Engine, WorkerSlot
from gateway.runtime.gc_tuning import tune_interpreter
from gateway.runtime.live_buffer import LiveBuffer
from gateway.runtime.worker_channel import WorkerChannel
from gateway.runtime.worker_messages import Changed, Reply, Report, Request, Use

SEND_EVENTS_EVERY = 0.03
REPORT_EVERY = 1.0
DEVICES_AT_ONCE = 500
REPLAY_WITHIN = 15.0
NOT_YET = (
    f"it is not on disk after {REPLAY_WITHIN:g} s, but may be later: look whether it is still among the dead letters"
)


class Worker:
    """Runs one engine and reports to the supervisor."""

    def __init__(self, config: Config, slot: WorkerSlot) -> None:
        self._live_buffer = LiveBuffer(config.settings.feeds.kept)
        self.engine = Engine(config, [self._live_buffer], slot)

    async def run(self, channel: WorkerChannel) -> None:
        """Run until it is stopped, or the supervisor has ended."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.engine.stop)
        reporting: asyncio.Task[None] | None = None
        try:
            async with self.engine:
                # Until the state is closed, which may take long: a worker that gives no sign of life is killed.
                reporting = asyncio.create_task(self._report(channel), name="report")
                await self._work(channel)
        finally:
            if reporting is not None:
                reporting.cancel()
        await channel.close()

    async def _work(self, channel: WorkerChannel) -> None:
        async with asyncio.TaskGroup() as tasks:
            helpers = [
                tasks.create_task(self._listen(channel, tasks), name="channel"),
                tasks.create_task(self._send_events(channel), name="live-events"),
            ]
            if self.engine.slot.retiring:
                helpers.append(tasks.create_task(self._retire(), name="retire"))
            tune_interpreter()
            await self.engine.run()
            for helper in helpers:
                helper.cancel()

    async def _listen(self, channel: WorkerChannel, tasks: asyncio.TaskGroup) -> None:
        async for message in channel.messages():
            match message:
                case Request():
                    tasks.create_task(self._reply(channel, message), name="reply")
                case Use():
                    await self.engine.types.load()  # a startup may have been another worker's
                    self.engine.use(message.config(self.engine.config), message.served)
        self.engine.stop()  # the supervisor has ended: nobody is left to start or stop this worker

    async def _reply(self, channel: WorkerChannel, request: Request) -> None:
        number = request.number
        if request.release is not None:
            channel.send(Reply(number, released=self.engine.drain.release(request.release)))
            return
        try:
            async with asyncio.timeout(REPLAY_WITHIN):
                if request.dead_letter is not None:
                    channel.send(Reply(number, reasons=await self.engine.replay(request.dead_letter)))
                elif request.forget is not None:
                    channel.send(Reply(number, forgotten=await self.engine.forget_type(*request.forget)))
                else:
                    channel.send(Reply(number, families=await asyncio.to_thread(self.engine.metrics.families)))
        except GatewayError as error:
            channel.send(Reply(request.number, problem=str(error)))
        except TimeoutError:
            channel.send(Reply(request.number, problem=NOT_YET))

    async def _send_events(self, channel: WorkerChannel) -> None:
        while True:
            await asyncio.sleep(SEND_EVENTS_EVERY)
            while not channel.is_congested and (events := self._live_buffer.take()):
                channel.send(events)
                await asyncio.sleep(0)  # there may be more: others first

    async def _report(self, channel: WorkerChannel) -> None:
        while True:
            if not channel.is_congested:
                channel.send(Report(self.engine.health()))
            while not channel.is_congested and (devices := self.engine.state.registry.changed(DEVICES_AT_ONCE)):
                channel.send(Changed(devices))
                await asyncio.sleep(0)
            await asyncio.sleep(REPORT_EVERY)

    async def _retire(self) -> None:
        await self.engine.finished()
        self.engine.stop()


def main(arguments: Sequence[str]) -> int:
    """Run a worker; return its exit status. Errors at the start are in the log."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the supervisor reloads, and passes on what it has read
    raise_descriptor_limit()
    descriptor, worker = map(int, arguments[:2])

    async def serve() -> None:
        channel = await WorkerChannel.over(socket.socket(fileno=descriptor))
        first = await anext(channel.messages(), None)
        if isinstance(first, Use):
            logs.configure(first.settings.log.level, first.settings.log.format, worker=worker)
            slot = WorkerSlot(worker, first.served, retiring="retire" in arguments[2:])
            await Worker(first.config(None), slot).run(channel)

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
