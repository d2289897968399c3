"""Shared by all tests: the same surroundings on every machine, no blocking call in the event loop from gateway code,
no process that outlives its test, and property tests that CI can repeat."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Iterator, Sequence
from typing import Any

import pytest
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import HealthCheck, settings

from tests.servers import children

settings.register_profile("dev", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "dev")

OF_THE_SHELL = {
    *("TERM", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "PY_COLORS", "TTY_COMPATIBLE", "TTY_INTERACTIVE"),
    "GITHUB_ACTIONS",  # typer takes its log for a terminal
}
"""How whoever starts the tests likes their terminal."""


def pytest_configure() -> None:
    """Make the surroundings the same for all tests and for what they start."""
    for name in os.environ.keys() & OF_THE_SHELL | {name for name in os.environ if name.startswith("GATEWAY_")}:
        del os.environ[name]
    for name in ("NO_PROXY", "no_proxy"):  # a proxy does not know our servers
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), "127.0.0.1", "localhost")))
    _receive_signals()
    children.adopt_orphans()


def _receive_signals() -> None:
    """End in good order at SIGTERM, as at Ctrl-C, and start children that notice signals.

    A shell script that runs the tests in its background has them ignore Ctrl-C, and their children would inherit that.
    A signal that is caught acts as usual in a child: so it is caught here, and does as little as before.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


@pytest.fixture(autouse=True, scope="session")
def _no_blocking() -> Iterator[BlockBuster]:
    """A blocking call below gateway code, in an event loop, raises BlockingError where it is made."""
    with blockbuster_ctx("gateway") as detector:
        for name, function in detector.functions.items():
            # An error that nobody looked at is reported when it is collected as garbage: below whatever runs then.
            function.can_block_in("asyncio/base_events.py", {"call_exception_handler"})
            if "ock.acquire" in name:
                function.deactivate()  # coverage's own tracer takes a lock, below whatever it traces
        yield detector


@pytest.fixture(autouse=True, scope="session")
def _nothing_is_left_at_the_end() -> Iterator[None]:
    """Whatever the tests of a module, or all of them, share ends with them."""
    before = children.living()
    yield
    _fail_if_left(children.end_all_but(before))


@pytest.fixture(autouse=True)
def _nothing_is_left_of_a_test() -> Iterator[None]:
    """Whatever a test has started ends with it: a process that stays fails this test and disturbs no other."""
    before = children.living()
    yield
    _fail_if_left(children.end_all_but(before | _shared))


_shared: set[int] = set()
"""The children that outlive a test: servers of a whole module."""


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any]) -> Generator[None, object, object]:
    if fixturedef.scope == "function":
        return (yield)
    before = children.living()
    made = yield
    _shared.update(children.living() - before)
    return made


def _fail_if_left(processes: Sequence[str]) -> None:
    if processes:
        pytest.fail("processes that did not end with what started them:\n" + "\n".join(processes))
