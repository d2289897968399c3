"""Starts the gateway again whenever it ends, as systemd does with `Restart=always`."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import suppress

from tests.running import GatewayProcess

PAUSE = 0.3
"""Seconds between an end and the next start."""
STOP_WITHIN = 45.0
"""Seconds of an orderly stop: the gateway's own bounds are below."""


class Keeper:
    """`ends` are the exit statuses of the gateway so far. `options` are those of `gateway run`."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self.gateway = gateway
        self.options: list[str] = []
        self.ends: list[int] = []
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def exits(self) -> int:
        """How many times it has ended by itself with an error: nobody killed or stopped it."""
        return sum(status > 0 for status in self.ends)

    async def run(self) -> None:
        """Keep it running, until cancelled."""
        while True:
            await self._wanted.wait()
            await self.gateway.start(*self.options)
            self.ends.append(await self.gateway.ended())
            await asyncio.sleep(PAUSE)

    def start(self) -> None:
        """Start it, and keep it running from now on."""
        self._wanted.set()
        if self._task is None:
            self._task = asyncio.create_task(self.run())

    def kill(self) -> None:
        """Kill -9; it is started again."""
        with suppress(ProcessLookupError):
            os.kill(self.gateway.pid, signal.SIGKILL)

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it with a signal, by force if that takes too long, and leave it down; return its exit status."""
        self._wanted.clear()
        if not self.gateway.runs:
            return self.ends[-1] if self.ends else 0
        ends, give_up = len(self.ends), time.monotonic() + STOP_WITHIN
        self.gateway.send(number)
        while len(self.ends) == ends:  # `run` waits for it, and notes its status
            await asyncio.sleep(0.02)
            if time.monotonic() > give_up:
                self.kill()
        return self.ends[-1]

    async def end(self) -> None:
        """End everything."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
        await self.gateway.end()
