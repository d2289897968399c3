"""The suite itself holds on any machine: what its tests start ends with them, and notices signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import pytest

from tests.builders import ROOT
from tests.running import GatewayProcess, write_config
from tests.servers import Mosquitto, children, commands, eventually, free_port

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
LEAVE_AN_ORPHAN = f"import subprocess; print(subprocess.Popen({SLEEP!r}, stdout=subprocess.DEVNULL).pid)"
AS_A_SUITE = """
import subprocess, sys
from tests import conftest
conftest.pytest_configure()
ask = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
sys.exit(subprocess.call([sys.executable, "-c", ask]))
"""
TAKE_THE_PORT = """
import sys
from tests.servers import free_port, processes
processes.PORTS = range(int(sys.argv[1]), int(sys.argv[1]) + 1)
print(free_port())
"""


@contextmanager
def ignored_interrupts() -> Iterator[None]:
    """Start children as a shell script does in its background: they inherit that Ctrl-C is ignored."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.fixture
def no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "GRACE", 0)


@pytest.mark.usefixtures("no_grace")
def test_a_child_that_is_left_is_named_and_killed() -> None:
    """A process that a test forgot is found by its command line, and runs no longer."""
    before = children.living()
    with subprocess.Popen(SLEEP) as process:
        (left,) = children.end_all_but(before)
    assert left.startswith(f"{process.pid}: ")
    assert "time.sleep(600)" in left
    assert children.living() == before


@pytest.mark.usefixtures("no_grace")
def test_an_orphan_that_is_left_is_found(tmp_path: Path) -> None:
    """A process whose parent has ended is found as well."""
    before = children.living()
    parent = subprocess.run([sys.executable, "-c", LEAVE_AN_ORPHAN], stdout=subprocess.PIPE, text=True, check=True)
    (left,) = children.end_all_but(before)
    assert left.startswith(f"{int(parent.stdout)}: ")


async def test_children_notice_ctrl_c_where_the_suite_ignores_it() -> None:
    """Started in the background of a script, the suite ignores Ctrl-C and starts children that do not."""
    with ignored_interrupts():
        done = await commands.run(sys.executable, "-c", AS_A_SUITE, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert (done.code, done.out.strip()) == (0, "True"), done.err


async def test_a_port_is_given_once() -> None:
    """Another run of the suite does not get a port that this one has, though nobody listens there."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = await commands.run(sys.executable, "-c", TAKE_THE_PORT, str(free_port()), env=environment)
    assert done.code == 1
    assert "no free port" in done.err


@pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["one process", "workers"])
async def test_a_gateway_in_the_background_stops_at_sigterm(tmp_path: Path, options: tuple[str, ...]) -> None:
    """A gateway that a script started in its background drains and ends at SIGTERM, with status 0."""
    async with Mosquitto(tmp_path / "mosquitto") as broker:
        gateway = GatewayProcess(write_config(tmp_path / "config", broker.url))
        with ignored_interrupts():
            await gateway.start(*options)
        await eventually(lambda: gateway.log.count("broker connected") == len(options or (1,)))
        assert await gateway.terminate() == 0


async def test_devices_in_the_background_stop_at_sigterm(tmp_path: Path) -> None:
    """The simulated fleet does so too."""
    async with Mosquitto(tmp_path) as broker, AsyncExitStack() as stack:
        command = [sys.executable, "-m", "devices", "--broker", broker.url, "--devices", "1"]
        with ignored_interrupts():
            process = await stack.enter_async_context(commands.started(*command))
        await eventually(lambda: "New client connected" in broker.log)
        process.send_signal(signal.SIGTERM)
        assert (await commands.output(process)).code == 0
