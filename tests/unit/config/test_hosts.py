"""Several hosts: what may be configured, which one serves what, and how one is emptied."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import Config, Settings, Startup, load
from gateway.config.hosts import least_loaded, loads, looks, on_host, without_host
from gateway.errors import ConfigInvalid, HostUnknown
from tests.builders import STARTUP, startup, write_config

HOSTS = {"north": {"url": "https://north.example"}, "south": {"url": "https://south.example:8443/"}}
INFLUXDB = "store: {kind: influxdb}\n"
TWO = "hosts:\n  north: {url: https://north.example}\n  south: {url: https://south.example}\n"


def configured(*startups: Startup, host: str | None = None, **settings: object) -> Config:
    whole = Settings.model_validate({"hosts": HOSTS, "store": {"kind": "influxdb"}, **settings})
    return (
        on_host(Config(settings=whole, startups=startups), host) if host else Config(settings=whole, startups=startups)
    )


def problems(directory: Path) -> list[str]:
    with pytest.raises(ConfigInvalid) as caught:
        load(directory)
    return [str(one).removeprefix(f"{directory}/") for one in caught.value.problems]


def test_a_startup_names_its_host(tmp_path: Path) -> None:
    """One host, or several in a list; the first of all serves a startup that names none."""
    write_config(
        tmp_path,
        TWO + INFLUXDB,
        acme=f"host: south\n{STARTUP}",
        birch=f"host: [south, north]\n{STARTUP.replace('acme', 'birch')}",
        cord=STARTUP.replace("acme", "cord"),
    )
    loaded = load(tmp_path)
    assert [loaded.hosts_of(one) for one in loaded.startups] == [("south",), ("south", "north"), ("north",)]
    assert [one.slug for one in on_host(loaded, "north").served] == ["birch", "cord"]
    assert [one.slug for one in on_host(loaded, "south").served] == ["acme", "birch"]


def test_hosts_that_do_not_exist_are_named(tmp_path: Path) -> None:
    """The error lists those that do, with the line of the startup's file."""
    write_config(tmp_path, TWO + INFLUXDB, acme=f"host: [north, west]\n{STARTUP}")
    assert problems(tmp_path) == [
        "startups/acme.yaml:1: host: expected a name under hosts in gateway.yaml (north, south); got 'west'"
    ]
    write_config(tmp_path, "", acme=f"host: west\n{STARTUP}")
    assert "(none yet)" in problems(tmp_path)[0]


@pytest.mark.parametrize("host", ["[north, north]", "[]", "3", "{north: 1}", "'North Hall'"])
def test_names_of_hosts_are_checked(tmp_path: Path, host: str) -> None:
    """Twice the same, none at all, and what is no name."""
    write_config(tmp_path, TWO + INFLUXDB, acme=f"host: {host}\n{STARTUP}")
    (problem,) = problems(tmp_path)
    assert problem.startswith("startups/acme.yaml:1: host")


def test_several_hosts_need_influxdb(tmp_path: Path) -> None:
    """A SQLite store is a file of one host: a startup that moves would leave its readings behind."""
    write_config(tmp_path, TWO)
    (problem,) = problems(tmp_path)
    assert "a store of kind influxdb, since there are several hosts" in problem
    write_config(tmp_path, "hosts: {north: {url: https://north.example}}\n")
    assert load(tmp_path).settings.hosts


def test_several_hosts_need_a_session_a_startup(tmp_path: Path) -> None:
    """With one session for all, nothing could move."""
    write_config(tmp_path, TWO + INFLUXDB + "mqtt: {sessions: one}\n")
    (problem,) = problems(tmp_path)
    assert problem.startswith("gateway.yaml: mqtt.sessions: expected startup")


def test_a_gateway_knows_its_host() -> None:
    """With several hosts it must be given one of them, without any it must not: the error lists them."""
    assert configured(startup(), host="south").host == "south"
    for name in (None, "west"):
        with pytest.raises(HostUnknown, match="north, south"):
            on_host(configured(startup()), name)
    alone = Config(settings=Settings(), startups=(startup(),))
    with pytest.raises(HostUnknown, match="there are none"):
        on_host(alone, "north")
    assert on_host(alone, None).served == alone.startups


def test_one_host_looks_for_messages_of_no_startup() -> None:
    """The first that serves a startup: so the look is passed on when a host is drained."""
    both = (startup("acme", host="north"), startup("birch", host="south"))
    assert [looks(configured(*both, host=name)) for name in HOSTS] == [True, False]
    assert [looks(configured(both[1], host=name)) for name in HOSTS] == [False, True]
    assert looks(Config(settings=Settings(), startups=both))


def test_a_quota_is_divided_among_the_hosts_of_a_startup() -> None:
    """Rates and bursts are; what is counted for each device and series, and the size of a payload, are not."""
    quota = {"messages": "100/s", "burst": 1000, "bytes": "100KiB", "devices": 7, "series": 9}
    shared, alone = startup("acme", host=["north", "south"], quota=quota), startup("birch", host="north", quota=quota)
    here = configured(shared, alone, host="north")
    part = here.quota_of(shared)
    assert (part.messages, part.burst, part.bytes_a_second) == (50, 500, 51_200)
    assert (part.devices, part.series, part.payload) == (7, 9, shared.quota.payload)
    assert here.quota_of(alone) is alone.quota
    assert configured(shared).quota_of(shared) is shared.quota


def test_drained_startups_go_where_there_is_room() -> None:
    """The largest first, each to the host with the smallest quotas by then; a shared one keeps its other hosts."""
    west = {"west": {"url": "http://west.example"}}
    sizes = {"acme": 100, "birch": 60, "cord": 50, "dune": 10}
    leaving = [startup(slug, quota={"messages": f"{size}/s"}) for slug, size in sizes.items()]
    shared = startup("elm", host=["south", "north"])
    config = configured(*leaving, shared, startup("fig", host="south"), hosts=HOSTS | west)
    assert [one.slug for one in loads(config)["north"]] == [*sizes, "elm"]
    assert least_loaded(config) == "west"
    assert without_host(config, "north") == {
        "elm": ("south",),
        "acme": ("west",),
        "birch": ("west",),
        "cord": ("west",),
        "dune": ("west",),
    }


def test_what_cannot_be_drained() -> None:
    """A host that does not exist, and the only one."""
    with pytest.raises(HostUnknown, match="north, south"):
        without_host(configured(startup()), "west")
    with pytest.raises(HostUnknown, match="only host"):
        without_host(configured(startup(), hosts={"north": HOSTS["north"]}), "north")
