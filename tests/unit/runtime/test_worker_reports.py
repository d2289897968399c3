"""Reports of several workers, combined."""

from __future__ import annotations

from dataclasses import replace

from gateway.health import Health, Part
from gateway.runtime.worker_reports import WorkerReports
from gateway.state.devices import Device

FULL = "it is full"


def health(broker: str = "", journal: str = "", **stores: str) -> Health:
    parts = (Part("broker", broker), Part("disk"), Part("journal", journal))
    return Health(parts, {slug: Part("store", problem) for slug, problem in stores.items()})


def problems(one: Health) -> dict[str, str]:
    return {part.name: part.problem for part in one.parts if part.problem}


def test_workers_without_problems() -> None:
    """Two workers without a problem make a gateway without one."""
    reports = WorkerReports()
    reports.report(0, health(acme=""))
    reports.report(1, health(acme=""))
    found = reports.health({0: "", 1: ""}, Part("config", "line 3"))
    assert found.is_ready
    assert [part.name for part in found.parts] == ["workers", "broker", "disk", "journal"]
    assert found.stores == {"acme": Part("store")}


def test_a_problem_names_its_workers() -> None:
    """A problem has the numbers of its workers; one that several have stands once."""
    reports = WorkerReports()
    reports.report(0, health(journal=FULL, acme="away"))
    reports.report(1, health(journal=FULL, broker="rejected", acme=""))
    found = reports.health({0: "", 1: ""}, Part("config", "line 3"))
    assert problems(found) == {"broker": "worker 1: rejected", "journal": "worker 0, 1: it is full"}
    assert found.stores["acme"].problem == "worker 0: away"
    assert found.config.problem == "line 3"
    assert not found.is_ready


def test_sessions_of_all_workers_count() -> None:
    """A worker whose only startup cannot be served leaves the gateway ready: other workers serve theirs."""
    reports = WorkerReports()
    reports.report(0, replace(health(), sessions={"acme": Part("session")}))
    reports.report(1, replace(health(), sessions={"birch": Part("session", "denied")}))
    found = reports.health({0: "", 1: ""}, Part("config"))
    assert found.is_ready
    assert found.sessions == {"acme": Part("session"), "birch": Part("session", "worker 1: denied")}


def test_a_lost_worker() -> None:
    """A lost worker is reported under `workers`; its last report no longer counts."""
    reports = WorkerReports()
    reports.report(0, health())
    reports.report(1, health(broker="rejected"))
    reports.lost(1)
    assert problems(reports.health({0: "", 1: "it ended"}, Part("config"))) == {"workers": "1: it ended"}


def test_a_device_of_several_workers_is_one() -> None:
    """Its counts are added up, it was seen first by the first and last by the last; newer reports take the place of
    older ones."""
    reports = WorkerReports()
    first = Device("acme", "b", 5, 9, 10, 1, 7, frozenset({"climate"}))
    reports.changed(0, [first, Device("acme", "a", 1, 1, 1)])
    reports.changed(1, [Device("acme", "b", 3, 8, 4)])
    reports.changed(1, [Device("acme", "b", 3, 12, 6, 2, 12, frozenset({"door"}))])
    assert reports.devices("acme") == [
        Device("acme", "a", 1, 1, 1),
        Device("acme", "b", 3, 12, 16, 3, 12, frozenset({"climate", "door"})),
    ]
    assert reports.devices("nobody") == []
