"""Mosquitto as the benchmarks run it: the same for the ceiling and for whatever is compared with it."""

from __future__ import annotations

from pathlib import Path

from tests.servers import Mosquitto

CONFIGURATION = """\
set_tcp_nodelay true
max_inflight_messages 0
max_queued_messages 0
max_queued_bytes 0
autosave_interval 1800
log_type error
log_type warning
log_type subscribe
"""
"""No limit drops anything. Sessions outlive a restart, but nothing is saved while the clock runs."""


def broker(directory: Path) -> Mosquitto:
    """Run a broker on a loopback port of its own."""
    return Mosquitto(directory, conf=CONFIGURATION)
