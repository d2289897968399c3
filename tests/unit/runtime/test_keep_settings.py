"""Changes of gateway.yaml that a running gateway takes over: the hosts, where it is one of several; no more."""

from __future__ import annotations

from typing import Any

from gateway.config import Config, Settings
from gateway.config.hosts import on_host
from gateway.runtime.gateway import keep_settings
from tests.builders import startup

NORTH, SOUTH, WEST = ({name: {"url": f"https://{name}.example"}} for name in ("north", "south", "west"))


def config(hosts: object, on: str | None = None, **of_startup: Any) -> Config:
    settings = Settings.model_validate({"hosts": hosts, "store": {"kind": "influxdb"}})
    made = Config(settings=settings, startups=(startup(**of_startup),))
    return on_host(made, on) if on else made


def test_a_host_takes_over_changes_of_the_hosts() -> None:
    """A startup may move to a host that was added while this one runs: it then answers with that one's address."""
    after = keep_settings(config(NORTH | SOUTH, "north"), config(NORTH | SOUTH | WEST, host="west"))
    assert after.host == "north"
    assert after.served == ()
    assert after.settings.hosts["west"].url == "https://west.example"


def test_a_host_that_was_removed_serves_nothing() -> None:
    """It goes on to drain its journal."""
    assert keep_settings(config(NORTH | SOUTH, "north"), config(SOUTH)).served == ()


def test_hosts_that_come_or_go_wait_for_the_next_start() -> None:
    """A gateway that was started for all startups serves them all until then, and a host its own."""
    single = keep_settings(config({}), config(NORTH | SOUTH, host="south"))
    assert (single.host, len(single.served), single.settings.hosts) == (None, 1, {})
    assert keep_settings(config(NORTH | SOUTH, "south"), config({})).served == ()
    assert len(keep_settings(config(NORTH | SOUTH, "north"), config({})).served) == 1
