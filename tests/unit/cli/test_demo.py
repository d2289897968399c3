"""The demo's configuration: whatever the operator's has, everything is embedded."""

from __future__ import annotations

from pathlib import Path

from gateway.cli.demo import embedded
from gateway.config import Config, Settings
from tests.builders import startup


def test_every_store_of_the_demo_isembedded(tmp_path: Path) -> None:
    """A configuration with several InfluxDB instances is shown without any of them."""
    influxdb = {"kind": "influxdb"}
    settings = Settings.model_validate({"state_dir": tmp_path, "store": influxdb, "stores": {"east": influxdb}})
    demo = embedded(Config(settings=settings, startups=(startup(store="east"),)), "mqtt://127.0.0.1:1").settings
    assert (demo.store.kind, demo.store_named("east").kind) == ("sqlite", "sqlite")
