"""Who holds a state directory, and an engine whose state is removed. No broker is needed: nobody answers."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.api.auth import Tokens
from gateway.config import Config, Loader
from gateway.errors import StateUnavailable
from gateway.runtime.engine import Engine
from gateway.runtime.gateway import Gateway
from gateway.runtime.supervisor import Supervisor
from gateway.state import ledger
from gateway.state.database import FILE_NAME
from gateway.state.journal import Block, Journal
from gateway.state.lock import locked
from gateway.state.workers import lock_of
from tests.builders import database
from tests.running import write_config
from tests.servers import WITHIN, eventually, free_port

TAKEN = "another gateway is running"


@pytest.fixture
def loader(tmp_path: Path) -> Loader:
    return Loader(write_config(tmp_path / "config", f"mqtt://127.0.0.1:{free_port()}"))


@pytest.fixture
async def config(loader: Loader) -> Config:
    return await asyncio.to_thread(loader.load)


@pytest.fixture
def held(loader: Loader) -> Iterator[None]:
    """The state directory is held by a gateway, and everything in it was deleted."""
    state_dir = loader.load().state_dir
    with locked(state_dir):
        for path in state_dir.iterdir():
            path.unlink()
        yield


@pytest.fixture
def worker_held(loader: Loader) -> Iterator[None]:
    """The state of worker 0 is held by a worker that outlived its supervisor."""
    with locked(lock_of(loader.load().state_dir, 0)):
        yield


@pytest.mark.usefixtures("held")
async def test_one_process_needs_the_directory(config: Config) -> None:
    """A gateway of one process does not start where another has the directory, whatever was deleted in it."""
    with pytest.raises(StateUnavailable, match=TAKEN):
        await Gateway(config, Tokens({}, None)).run()


@pytest.mark.usefixtures("held")
async def test_a_supervisor_needs_the_directory(loader: Loader, config: Config) -> None:
    """Several workers do not start beside one process."""
    with pytest.raises(StateUnavailable, match=TAKEN):
        await Supervisor(config, Tokens({}, None), loader, 2).run()


@pytest.mark.usefixtures("worker_held")
async def test_a_worker_that_outlives_its_supervisor_keeps_its_state(config: Config) -> None:
    """A gateway of one process does not use the state of a worker that still runs."""
    with pytest.raises(StateUnavailable, match=TAKEN):
        await Gateway(config, Tokens({}, None)).run()


async def run_until_lost(engine: Engine, config: Config) -> None:
    """Run an engine with a reading in its journal, remove its state directory, and wait until it ends."""
    lines = Block.of(["climate,device=th-1 temperature=21 1"])
    async with engine:
        running = asyncio.create_task(engine.run())
        await engine.state.database.write(lambda connection: Journal.append(connection, {"acme": lines}))
        engine.state.journal.appended({"acme": lines})
        await asyncio.to_thread(shutil.rmtree, config.state_dir)
        await eventually(lambda: bool(engine.state.database.problem), says="the loss is noticed")
        assert not engine.health().is_ready
        await asyncio.wait_for(running, WITHIN)


async def test_an_engine_whose_state_is_removed_ends(config: Config) -> None:
    """It notices that without a message, says so in its health, stores what it has, saves the rest and fails."""
    with pytest.raises(StateUnavailable, match="was removed or moved while the gateway was running"):
        await run_until_lost(Engine(config, []), config)
    async with database(config.state_dir / FILE_NAME) as state:
        counts = (await state.read(ledger.balance))["acme"]
    assert counts.accepted == 1
    assert counts.balanced
