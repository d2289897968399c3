"""Sessions of a worker, on one host and on several: names, filters, and those that are another's."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from gateway.config import Config, Settings, Startup
from gateway.mqtt.session import MAX_PACKET
from gateway.mqtt.session_plan import ALL, SessionPlan, other_form, startup_of
from tests.builders import startup

OF = {slug: (f"testbed/{slug}/#",) for slug in ("acme", "birch", "cord")}
HOSTS = {name: {"url": f"https://{name}.example"} for name in ("north", "south", "west")}
SHARED = ("$share/testbed-gateway/testbed/acme/#",)


def plan(
    *startups: Startup, host: str | None = None, served: Collection[str] | None = None, worker: int = 0, **mqtt: str
) -> SessionPlan:
    settings = Settings.model_validate({"hosts": HOSTS if host else {}, "mqtt": mqtt})
    config = Config(settings=settings, startups=startups, host=host)
    return SessionPlan.of(config, served if served is not None else {one.slug for one in config.served}, worker)


def test_each_startup_has_a_session() -> None:
    """Of its name, with its own filters; the one process looks for messages of none."""
    found = plan(startup("acme"), startup("birch"))
    assert found == SessionPlan(
        {"acme": OF["acme"], "birch": OF["birch"]}, {}, frozenset({"acme", "birch"}), looks=True
    )


def test_packets_are_bounded_by_the_largest_quota() -> None:
    """A session takes a mebibyte, or the largest payload that any startup may send, with its topic and properties."""
    large = startup("birch", quota={"payload": "3MiB"})
    assert plan(startup("acme")).max_packet == MAX_PACKET
    assert (3 << 20) + 65_535 + 4096 < plan(startup("acme"), large).max_packet < 4 << 20


def test_those_of_other_workers_are_elsewhere() -> None:
    """They are not to be ended here, and only the first worker looks."""
    found = plan(startup("acme"), startup("birch"), served={"birch"}, worker=1)
    assert (found.wanted, found.elsewhere, found.looks) == ({"birch": OF["birch"]}, {"acme": OF["acme"]}, False)


def test_one_session_for_all() -> None:
    """Then none of the startups' is another's: those of an earlier run are to be ended."""
    found = plan(startup("acme"), startup("birch"), sessions="one")
    assert (found.wanted, found.elsewhere, found.looks) == ({ALL: ("testbed/#",)}, {}, False)
    assert plan(startup("acme"), served=(), worker=1, sessions="one").wanted == {}


def test_those_of_other_hosts_are_elsewhere() -> None:
    """The name of a session is the same on every host, so that another one takes it over."""
    both = startup("acme", host="north"), startup("birch", host="south")
    north, south = plan(*both, host="north"), plan(*both, host="south")
    assert north.wanted == south.elsewhere == {"acme": OF["acme"]}
    assert south.wanted == north.elsewhere == {"birch": OF["birch"]}


def test_a_startup_on_several_hosts() -> None:
    """They share its messages: the first has the session of its name, so that a move from one host to several, or
    back, changes that session's filters; each other one has a session beside it."""
    one = startup("acme", host=["south", "north"])
    south, north, west = (plan(one, host=host) for host in ("south", "north", "west"))
    assert (south.wanted, south.elsewhere) == ({"acme": SHARED}, {})
    assert (north.wanted, north.elsewhere) == ({"acme.north": SHARED}, {"acme": SHARED})
    assert (west.wanted, west.elsewhere) == ({}, {"acme": SHARED})
    assert startup_of("acme.north") == startup_of("acme") == "acme"


def test_another_worker_of_the_same_host_has_the_shared_session() -> None:
    """It must not be ended by the worker that had it before."""
    assert plan(startup("acme", host=["south", "north"]), host="north", served=()).elsewhere == {
        "acme": SHARED,
        "acme.north": SHARED,
    }


@pytest.mark.parametrize("client_id", ["testbed-gateway", "a/b+c#"])
def test_each_form_of_a_filter_has_the_other(client_id: str) -> None:
    """Whatever the client id is: a group may not hold every character of one."""
    plain = ("testbed/acme/#", "lora/acme/+/up")
    shared = other_form(plain, client_id)
    assert all(name.startswith("$share/") and "/".join(name.split("/")[2:]) in plain for name in shared)
    assert other_form(shared, client_id) == plain
