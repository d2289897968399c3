"""Run of a whole fleet in one TaskGroup, from the first connection to the totals."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from random import Random

from devices.broker import Broker
from devices.client import DeviceClient
from devices.fleet import Unit
from devices.settings import Settings

GRACE = 5.0  # seconds


def connect(
    units: Sequence[Unit], broker: Broker, settings: Settings, seed: str, notify: Callable[[str], None]
) -> list[DeviceClient]:
    """Make an MQTT client for each unit; they do nothing yet. Call it in a running loop."""
    return [
        DeviceClient(unit, broker, settings, Random(f"{seed}/{unit.startup}/{unit.name}/network"), notify)
        for unit in units
    ]


async def run(clients: Sequence[DeviceClient], period: float, stop: asyncio.Event, grace: float = GRACE) -> None:
    """Run until `stop` is set, then let the devices send what is left, for at most `grace` seconds.

    The devices start evenly spread over one `period` (seconds), which keeps the load smooth.
    """
    async with asyncio.TaskGroup() as group:
        running = [
            group.create_task(client.run(period * place / len(clients)), name=client.identifier)
            for place, client in enumerate(clients)
        ]
        await stop.wait()
        for client in clients:
            client.finish()
        _, late = await asyncio.wait(running, timeout=grace)
        while late:  # repeatedly: up to Python 3.11 `asyncio.wait_for` may swallow a cancellation
            for task in late:
                task.cancel()
            _, late = await asyncio.wait(late, timeout=0.5)


async def stop_after(duration: float | None, stop: asyncio.Event) -> None:
    """Set `stop` after `duration` seconds; without one, wait until it is set elsewhere."""
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), duration)
    stop.set()


@contextmanager
def on_signal(act: Callable[[], None]) -> Iterator[None]:
    """Call `act` in the loop at Ctrl-C or SIGTERM; a second signal has its default effect. Main thread only."""
    loop = asyncio.get_running_loop()
    defaults = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in defaults.items():
            signal.signal(number, handler)

    def caught(*_: object) -> None:
        restore()
        loop.call_soon_threadsafe(act)

    for number in defaults:
        signal.signal(number, caught)  # works on Windows too, where loop.add_signal_handler does not
    try:
        yield
    finally:
        restore()
