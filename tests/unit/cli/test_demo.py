"""The demo: whatever the operator's configuration has, everything is embedded; its fleet ends with it."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from gateway.cli import demo
from gateway.config import Config, Settings
from gateway.errors import StateUnavailable
from gateway.state.database import FILE_NAME
from gateway.state.lock import locked
from tests.builders import startup
from tests.servers import WITHIN, commands


def test_every_store_of_the_demo_is_embedded(tmp_path: Path) -> None:
    """A configuration with several InfluxDB instances is shown without any of them."""
    influxdb = {"kind": "influxdb"}
    settings = Settings.model_validate({"state_dir": tmp_path, "store": influxdb, "stores": {"east": influxdb}})
    config = Config(settings=settings, startups=(startup(store="east"),))
    shown = demo.embedded(config, "mqtt://127.0.0.1:1").settings
    assert (shown.store.kind, shown.store_named("east").kind) == ("sqlite", "sqlite")


def test_second_demo_leaves_the_running_one_alone(tmp_path: Path) -> None:
    """A demo clears what an earlier one left, but not the state of one that runs: it ends with an error instead."""
    config = Config(settings=Settings.model_validate({"state_dir": tmp_path}), startups=(startup(),))
    kept = tmp_path / "demo" / FILE_NAME
    with locked(kept.parent):
        kept.touch()
        with pytest.raises(StateUnavailable, match="another gateway is running"):
            demo.embedded(config, "mqtt://127.0.0.1:1")
        assert kept.exists()
    demo.embedded(config, "mqtt://127.0.0.1:1")
    assert not kept.exists()


@pytest.mark.parametrize(("handler", "status"), [("SIG_DFL", -signal.SIGTERM), ("SIG_IGN", -signal.SIGKILL)])
async def test_fleet_ends_with_the_demo(monkeypatch: pytest.MonkeyPatch, handler: str, status: int) -> None:
    """A fleet that ignores SIGTERM is killed after a while; then nothing more arrives, and the ledger can be final."""
    monkeypatch.setattr(demo, "FLEET_ENDS_WITHIN", 0.2)
    script = f"import signal, time; signal.signal(signal.SIGTERM, signal.{handler}); print(flush=True); time.sleep(600)"
    async with commands.started(sys.executable, "-c", script) as fleet:
        assert fleet.stdout is not None
        async with asyncio.timeout(WITHIN):
            await fleet.stdout.readline()
            await demo.end(fleet)
        assert fleet.returncode == status
