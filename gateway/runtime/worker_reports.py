"""Reports of the workers, combined into those of one gateway."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from gateway.health import Health, Part
from gateway.state.devices import Device

SILENT_AFTER = 10.0
PARTS = ("broker", "disk", "journal")


class WorkerReports:
    """The newest report of each worker."""

    def __init__(self) -> None:
        self._reported: dict[int, float] = {}
        self._health: dict[int, Health] = {}
        self._combined: dict[str, dict[str, Part]] = {}
        """Parts of each startup, combined once for each report: each open page looks every second."""
        self._devices: dict[str, dict[str, dict[int, Device]]] = {}

    def report(self, worker: int, health: Health) -> None:
        """Take a worker's report."""
        self._health[worker] = health
        self._combined.clear()
        self._reported[worker] = time.monotonic()

    def changed(self, worker: int, devices: Sequence[Device]) -> None:
        """Take the devices of a worker that have changed."""
        for device in devices:
            self._devices.setdefault(device.startup, {}).setdefault(device.device, {})[worker] = device

    def lost(self, worker: int) -> None:
        """Drop the health of a worker that does not run: it is no longer true."""
        self._health.pop(worker, None)
        self._combined.clear()

    def has_reported(self, worker: int) -> bool:
        """Return whether the worker runs and has reported since."""
        return worker in self._health

    def devices(self, startup: str) -> list[Device]:
        """Return the devices of a startup, sorted by name; a device's messages may reach any worker."""
        return [_combined(list(of.values())) for _, of in sorted(self._devices.get(startup, {}).items())]

    def health(self, expected: Mapping[int, str], config: Part) -> Health:
        """Return the combined parts, with that of the configuration, which the supervisor reads for all. `expected` has
        the workers that should run, each with its problem or ""."""
        problems = {worker: problem or self._silence(worker) for worker, problem in expected.items()}
        parts = [Part("workers", "; ".join(f"{worker}: {problem}" for worker, problem in problems.items() if problem))]
        for name in PARTS:
            found = {worker: _part(health.parts, name) for worker, health in self._health.items()}
            parts.append(Part(name, _problems(found)))
        queues = next((health.queues for health in self._health.values() if health.queues.problem), Part("queues"))
        stores = self._by_startup("store", lambda health: health.stores)
        sessions = self._by_startup("session", lambda health: health.sessions)
        return Health(tuple(parts), stores, config, queues, sessions)

    def _silence(self, worker: int) -> str:
        seconds = time.monotonic() - self._reported.get(worker, time.monotonic())
        return f"it has not reported for {seconds:.0f} s: is the machine overloaded?" if seconds > SILENT_AFTER else ""

    def _by_startup(self, name: str, of: Callable[[Health], Mapping[str, Part]]) -> dict[str, Part]:
        """Combine the parts of each startup. Those of its own worker count, or of several, where they share it."""
        if name not in self._combined:
            found: dict[str, dict[int, Part]] = {}
            for worker, health in self._health.items():
                for startup, part in of(health).items():
                    found.setdefault(startup, {})[worker] = part
            self._combined[name] = {startup: Part(name, _problems(parts)) for startup, parts in sorted(found.items())}
        return self._combined[name]


def _part(parts: tuple[Part, ...], name: str) -> Part:
    return next((part for part in parts if part.name == name), Part(name))


def _problems(parts: Mapping[int, Part]) -> str:
    """Return the different problems of the workers, each with the workers that have it."""
    affected: dict[str, list[str]] = {}
    for worker, part in sorted(parts.items()):
        if part.problem:
            affected.setdefault(part.problem, []).append(str(worker))
    return "; ".join(f"worker {', '.join(workers)}: {problem}" for problem, workers in affected.items())


def _combined(parts: list[Device]) -> Device:
    if len(parts) == 1:
        return parts[0]
    newest = max(parts, key=lambda device: device.last_ns)
    return Device(
        newest.startup,
        newest.device,
        min(device.first_ns for device in parts),
        newest.last_ns,
        sum(device.accepted for device in parts),
        sum(device.rejected for device in parts),
        max(device.rejected_ns for device in parts),
        frozenset().union(*(device.measurements for device in parts)),
        newest.clock,
        sum(device.overwritten for device in parts),
    )
