"""Reloader: whatever fails, the configuration in use stays, and a later change is taken over."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.api.auth import Tokens
from gateway.config import Config, Loader
from gateway.runtime import reload
from gateway.runtime.reload import Reloader
from gateway.state.reader import StateReader
from tests.running import write_config
from tests.servers import eventually


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reload, "LOOK_EVERY_MS", 100)
    monkeypatch.setattr(reload, "POLL_EVERY", 0.02)
    monkeypatch.setattr(reload, "WATCH_AGAIN_AFTER", 5)
    monkeypatch.setattr(reload, "RETRY_AFTER", 0.05)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_config(tmp_path / "config", "mqtt://localhost")


class Used:
    """Configurations that were taken over; the first few may fail."""

    def __init__(self, failures: int = 0) -> None:
        self._failures = failures
        self.names: list[str] = []

    def __call__(self, config: Config, _tokens: Tokens) -> None:
        if self._failures:
            self._failures -= 1
            raise ZeroDivisionError
        self.names.append(config.by_slug["acme"].name)


@asynccontextmanager
async def watching(config: Path, used: Used) -> AsyncIterator[Reloader]:
    loader = Loader(config)
    await asyncio.to_thread(loader.load)
    reloader = Reloader(loader, used, StateReader(config.parent / "state"))
    task = asyncio.create_task(reloader.run())
    try:
        yield reloader
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def rename(config: Path, name: str) -> None:
    """Change the name of a startup in its file."""
    path = config / "startups" / "acme.yaml"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([f"name: {name}", *(line for line in lines if not line.startswith("name:"))]))


async def taken_over(config: Path, used: Used, name: str) -> None:
    await asyncio.to_thread(rename, config, name)
    await eventually(lambda: used.names[-1:] == [name], says="the change is taken over")


def without_inotify(*_paths: Any, **_settings: Any) -> AsyncGenerator[None]:
    raise OSError(errno.ENOSPC, "No space left on device")


async def test_files_that_cannot_be_watched_are_looked_at(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system grants no watches, changes are noticed all the same; that is said once, and so is its end."""
    used = Used()
    with capture_logs() as logs, monkeypatch.context() as patch:
        patch.setattr(reload, "awatch", without_inotify)
        async with watching(config, used):
            await taken_over(config, used, "One")
            await asyncio.sleep(0.2)  # it tries to watch them a few times
            patch.undo()
            await eventually(lambda: "configuration watched again" in [entry["event"] for entry in logs])
            await taken_over(config, used, "Two")
    warnings = [entry for entry in logs if entry["log_level"] == "warning"]
    assert [entry["event"] for entry in warnings] == ["configuration not watched"]
    assert "No space left on device" in warnings[0]["problem"]


async def test_files_that_cannot_be_opened_are_read_again(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reload for which there are no descriptors left is made up for when there are, without another change."""
    used = Used()

    def fail(*_arguments: Any) -> Any:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        async with watching(config, used) as reloader:
            patch.setattr(Path, "open", fail)
            patch.setattr(os, "scandir", fail)
            await reloader.now()
            assert "Too many open files" in reloader.problem
            patch.undo()
            await eventually(lambda: used.names == ["Acme"], says="it is read again")
            assert reloader.problem == ""
            await taken_over(config, used, "One")


async def test_name_that_is_not_utf_8_is_reported(config: Path) -> None:
    """A file with such a name is a problem like any other, in a form that JSON can take; without it, changes are taken
    over."""
    used = Used()
    async with watching(config, used) as reloader:
        odd = os.fsencode(config / "startups") + b"/naiv\xe9.yaml"
        await asyncio.to_thread(lambda: os.close(os.open(odd, os.O_CREAT)))
        await eventually(lambda: "naiv\\udce9.yaml" in reloader.problem)
        assert json.dumps(reloader.problem, ensure_ascii=False).encode()
        await asyncio.to_thread(os.unlink, odd)
        await eventually(lambda: reloader.problem == "")
        await taken_over(config, used, "One")


async def test_other_odd_names_disturb_nothing(config: Path) -> None:
    """Files that are none of the configuration may have any name."""
    used = Used()
    async with watching(config, used) as reloader:
        for folder in (config, config / "startups"):
            await asyncio.to_thread(lambda: os.close(os.open(os.fsencode(folder) + b"/\xff\n\x1b[2J", os.O_CREAT)))  # noqa: B023
        await taken_over(config, used, "One")
        assert reloader.problem == ""


async def test_keys_that_are_not_unicode_are_reported(config: Path) -> None:
    """YAML can spell half of a character."""
    path = config / "startups" / "acme.yaml"
    async with watching(config, Used()) as reloader:
        text = path.read_text()
        path.write_text(text + '"\\ud800": 1\n')
        await eventually(lambda: "\\ud800" in reloader.problem)
        assert reloader.problem.encode()


async def test_change_that_cannot_be_taken_over_ends_nothing(config: Path) -> None:
    """Whatever is raised by those who use it: it is reported, and tried again."""
    used = Used(failures=1)
    async with watching(config, used) as reloader:
        await asyncio.to_thread(rename, config, "One")
        await eventually(lambda: "ZeroDivisionError" in reloader.problem or used.names)
        await eventually(lambda: used.names == ["One"])
        assert reloader.problem == ""


async def test_directory_that_is_replaced_is_watched(config: Path) -> None:
    """Another directory in the same place, as a deployment may put it there, is noticed, and so are its changes."""
    used = Used()
    async with watching(config, used):
        new = config.with_name("new")
        await asyncio.to_thread(shutil.copytree, config, new)
        await asyncio.to_thread(rename, new, "One")
        await asyncio.to_thread(config.rename, config.with_name("old"))
        await asyncio.to_thread(new.rename, config)
        await eventually(lambda: used.names[-1:] == ["One"])
        await taken_over(config, used, "Two")
