"""A whole gateway for tests: a configuration directory, the gateway in this process or in one of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
from ruamel.yaml import YAML

from gateway.api.auth import Tokens
from gateway.api.server import HttpServer
from gateway.config import Loader
from gateway.errors import StateUnavailable
from gateway.model import Counts, Listener
from gateway.runtime.gateway import Gateway
from gateway.state import ledger
from gateway.state.database import FILE_NAME
from gateway.state.reader import StateReader
from tests.servers import WITHIN, eventually
from tests.servers.children import lives
from tests.servers.commands import kill_group

OPERATOR = "operator-token"
TOKENS = {"acme": "acme-token", "voltwise": "voltwise-token"}

CLIMATE: Mapping[str, Any] = {
    "topic": "testbed/{slug}/{device}/climate",
    "time": {"from": "/ts", "unit": "ms"},
    "seq": "/seq",
    "fields": {
        "temperature": {"from": "/t", "type": "float", "unit": "celsius", "min": -40, "max": 125},
        "seq": {"type": "int", "required": False},
    },
}
NO_LIMITS = {"messages": "1000000/s", "burst": 1_000_000}


def write_config(directory: Path, broker: str, **settings: Any) -> Path:
    """Write a configuration of two startups, acme and voltwise, with a measurement `climate` each."""
    (directory / "startups").mkdir(parents=True, exist_ok=True)
    yaml = YAML()
    for slug in TOKENS:
        rule = {**CLIMATE, "topic": f"testbed/{slug}/{{device}}/climate"}
        startup = {"name": slug.title(), "quota": dict(NO_LIMITS), "topics": {"climate": rule}}
        yaml.dump(startup, directory / "startups" / f"{slug}.yaml")
    defaults: dict[str, Any] = {
        "state_dir": "../state",
        "mqtt": {"url": broker},
        "http": {"listen": "127.0.0.1:0", "console": False},
        "drain": {"interval": "20ms", "max_backoff": "1s"},
    }
    yaml.dump(defaults | settings, directory / "gateway.yaml")
    return directory


def climate(t: float, ts_ms: int, seq: int | None = None) -> bytes:
    """Return a valid payload of `climate`."""
    more = "" if seq is None else f',"seq":{seq}'
    return f'{{"ts":{ts_ms},"t":{t}{more}}}'.encode()


@dataclass(frozen=True)
class Running:
    """A gateway that runs in this process."""

    gateway: Gateway
    url: str

    def client(self, token: str | None = OPERATOR) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=WITHIN)

    async def counts(self, startup: str = "acme") -> Counts:
        return (await self.gateway.engine.state.database.read(ledger.balance)).get(startup, Counts())

    async def stored(self, records: int, startup: str = "acme") -> Counts:
        """Wait until so many records are in the store."""

        async def enough() -> bool:
            return (await self.counts(startup)).stored >= records

        await eventually(enough, says=f"{records} records of {startup} are stored")
        return await self.counts(startup)


@asynccontextmanager
async def running(
    config: Path, *, connected: bool = True, reloads: bool = False, listeners: Sequence[Listener] = ()
) -> AsyncIterator[Running]:
    """Run the gateway of a configuration until the block ends, then stop it as SIGTERM would."""
    loader = Loader(config)
    loaded = await asyncio.to_thread(loader.load)
    gateway = await asyncio.to_thread(
        Gateway, loaded, Tokens(dict(TOKENS), OPERATOR), loader if reloads else None, listeners
    )
    server: asyncio.Future[HttpServer] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(gateway.run(server.set_result))
    await asyncio.wait((task, server), return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
    try:
        if connected:
            await eventually(lambda: gateway.engine.sessions.state.connected, says="the gateway is connected")
        yield Running(gateway, (await server).url)
    finally:
        gateway.stop()
        await task


def workers_of(supervisor: int) -> dict[int, int]:
    """Return the process ids of the workers of a supervisor that run, by their number."""
    found = {}
    for child in Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split():
        with suppress(OSError):  # it has just ended
            words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
            if b"gateway.runtime.worker" in words and lives(int(child)):
                found[int(words[4])] = int(child)
    return found


class GatewayProcess:
    """`gateway run` in a process of its own, as an operator starts it; it may be killed. `program` is how Python runs
    it, and `environment` what it has in its environment besides."""

    def __init__(self, config: Path) -> None:
        self.config = config
        self.program: Sequence[str] = ("-m", "gateway")
        self.environment: Mapping[str, str] = {}
        self.database = config.parent / "state" / FILE_NAME
        self.state = StateReader(self.database.parent)
        self._log = config.parent / "gateway.log"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, *options: str) -> None:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *self.program,
                "run",
                "--config",
                str(self.config),
                *options,
                stderr=log,
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,
                env=os.environ | {"GATEWAY_OPERATOR_TOKEN": OPERATOR, **self.environment},
            )

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def log(self) -> str:
        return self._log.read_text()

    async def kill(self) -> None:
        """Kill -9."""
        await self._end(signal.SIGKILL)

    async def terminate(self) -> int:
        """Send SIGTERM; return the exit status."""
        return await self._end(signal.SIGTERM)

    def workers(self) -> dict[int, int]:
        """Return the process ids of the workers that run, by their number."""
        assert self._process is not None
        return workers_of(self._process.pid)

    async def worker(self, number: int, *, other_than: Collection[int] = ()) -> int:
        """Wait until a worker runs; return its process id. One that has ended is started again after a pause."""

        def runs() -> int:
            pid = self.workers().get(number, 0)
            return 0 if pid in other_than else pid

        return await eventually(runs, says=f"worker {number} runs")

    async def kill_worker(self, number: int, *, other_than: Collection[int] = ()) -> int:
        """Wait until a worker runs, kill -9; return its process id."""
        while True:
            pid = await self.worker(number, other_than=other_than)
            with suppress(ProcessLookupError):  # it ended by itself: the next one, then
                os.kill(pid, signal.SIGKILL)
                return pid

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def counts(self, startup: str = "acme") -> Counts:
        """Return the ledger of a startup as it is on disk."""
        return await asyncio.to_thread(self._counts, startup)

    def _counts(self, startup: str) -> Counts:
        with suppress(StateUnavailable):
            return self.state.balance().get(startup, Counts())
        return Counts()

    async def _end(self, number: signal.Signals) -> int:
        assert self._process is not None
        with suppress(ProcessLookupError):
            self._process.send_signal(number)
        try:
            async with asyncio.timeout(WITHIN):
                return await self._process.wait()
        except TimeoutError:
            raise AssertionError(f"the gateway does not end at {number.name}\n{self.log[-2000:]}") from None
        finally:
            await self.end()

    async def end(self) -> None:
        """Kill it, if it still runs, and whatever it has started in its group; workers end by themselves then."""
        process, self._process = self._process, None
        if process is not None:
            kill_group(process)
            await process.wait()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.end()
