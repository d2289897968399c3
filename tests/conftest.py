"""What all tests share: no blocking call in the event loop from gateway code, and property tests that CI can repeat."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import HealthCheck, settings

settings.register_profile("dev", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "dev")


@pytest.fixture(autouse=True, scope="session")
def _no_blocking() -> Iterator[BlockBuster]:
    """A blocking call below gateway code, in an event loop, raises BlockingError where it is made."""
    with blockbuster_ctx("gateway") as detector:
        for name in [name for name in detector.functions if "ock.acquire" in name]:
            detector.functions[name].deactivate()  # coverage's own tracer takes a lock, below whatever it traces
        yield detector


@pytest.fixture(autouse=True)
def _no_secrets_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of the shell that runs the tests must not change what they find."""
    for name in [name for name in os.environ if name.startswith("GATEWAY_")]:
        monkeypatch.delenv(name)
