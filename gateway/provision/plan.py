"""Plan: steps from the actual to the wanted resources. Pure.

A resource is something on a server that provisioning manages: a role, a bucket, a dashboard. Its identity is (server,
kind, name); its `spec` is whatever of it can be compared, as JSON values. What a server does not show (a password, a
hashed token) is not part of the spec.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

from gateway.config import Config

Action = Literal["create", "update", "remove"]
MARK = "made by testbed-gateway"
"""Description of what provisioning made, on servers that keep one."""
SIGNS: Mapping[Action, str] = {"create": "+", "update": "~", "remove": "-"}


class Key(NamedTuple):
    """Identity of a resource."""

    server: str
    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource, wanted or actual. `is_ours`: provisioning made it, so it may change and remove it.

    For a wanted one, `needs` names what must exist first. `follows` names the parts of its spec that come from another
    resource and change with it: their values are unknown when the plan is made. For an actual one, `is_left_alone` says
    that nothing is done to it.
    """

    server: str
    kind: str
    name: str
    spec: Mapping[str, Any] = field(default_factory=dict)
    startup: str = ""
    is_ours: bool = True
    needs: tuple[Key, ...] = ()
    follows: Mapping[str, Key] = field(default_factory=dict)
    is_left_alone: bool = False

    @property
    def key(self) -> Key:
        return Key(self.server, self.kind, self.name)


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a plan. `resource` is the wanted one, or the actual one for a removal. `changes` are for people."""

    action: Action
    resource: Resource
    changes: tuple[str, ...] = ()

    def __str__(self) -> str:
        resource = self.resource
        return f"{SIGNS[self.action]} {resource.server} {resource.kind} {resource.name}"

    def as_json(self) -> dict[str, Any]:
        resource = self.resource
        return {
            "action": self.action,
            "server": resource.server,
            "kind": resource.kind,
            "name": resource.name,
            "startup": resource.startup,
            "changes": list(self.changes),
        }


@dataclass(frozen=True, slots=True)
class Conflict:
    """A resource that has a wanted name and is not ours; nothing is done to it."""

    resource: Resource

    def __str__(self) -> str:
        one = self.resource
        return (
            f"{one.server} already has a {one.kind} {one.name!r}, which provisioning did not make: rename or remove "
            "it there, then plan again"
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in order, and what prevents further ones.

    `leftover` is ours and no longer wanted, but not pruned. `stays` is no longer wanted either, but used by other
    people. `waiting` is in conflict, or needs what is.
    """

    steps: tuple[Step, ...]
    conflicts: tuple[Conflict, ...] = ()
    leftover: tuple[Resource, ...] = ()
    stays: tuple[Resource, ...] = ()
    waiting: frozenset[Key] = frozenset()

    @property
    def is_done(self) -> bool:
        return not self.steps and not self.conflicts


class Credential(NamedTuple):
    """A new secret, to be shown once. `whose` is for people."""

    startup: str
    whose: str
    name: str
    secret: str


class Server(Protocol):
    """A server to provision. Every method may raise a `ProvisionError` that says what to do."""

    name: str

    def wanted(self, config: Config) -> list[Resource]:
        """Return what should exist, in the order of its creation.

        It queries no server, but may read secret files: call it in a thread. It considers what the last `actual` found.
        """

    async def actual(self, config: Config) -> list[Resource]:
        """Return what exists: everything of ours, and whatever has a wanted name."""

    async def apply(self, step: Step) -> list[Credential]:
        """Apply a step. To repeat it does no harm."""

    async def close(self) -> None:
        """Close all connections."""


def diff(
    wanted: Sequence[Resource],
    actual: Iterable[Resource],
    *,
    prune: bool = False,
    renewed: Collection[Key] = (),
    waiting: Collection[Key] = (),
) -> Plan:
    """Plan the steps from `actual` to `wanted`: create and change in the order of `wanted`, remove in reverse order.

    `renewed` is what steps on earlier servers create or change: whatever follows from it changes too. `waiting` is what
    cannot be created there: whatever needs it must wait.
    """
    stuck = set(waiting)
    there = {resource.key: resource for resource in actual}
    steps: list[Step] = []
    conflicts: list[Conflict] = []
    for resource in wanted:
        found = there.pop(resource.key, None)
        if not stuck.isdisjoint((*resource.needs, *resource.follows.values())):
            stuck.add(resource.key)
        elif found is None:
            known = {name: value for name, value in resource.spec.items() if resource.follows.get(name) not in renewed}
            steps.append(Step("create", resource, tuple(_listed(known))))
        elif found.is_left_alone:
            continue
        elif not found.is_ours:
            conflicts.append(Conflict(found))
            stuck.add(resource.key)
        elif changes := tuple(_changes(found.spec, resource, renewed)):
            steps.append(Step("update", resource, changes))
    unwanted = [resource for resource in there.values() if resource.is_ours and not resource.is_left_alone]
    if prune:
        steps += [Step("remove", resource) for resource in reversed(unwanted)]
    stays = tuple(resource for resource in there.values() if resource.is_left_alone)
    return Plan(tuple(steps), tuple(conflicts), () if prune else tuple(unwanted), stays, frozenset(stuck))


def _listed(spec: Mapping[str, Any]) -> Iterable[str]:
    for name, value in spec.items():
        if isinstance(value, bool) or value == "":
            continue  # always so, and not worth a line
        if isinstance(value, str | int | float):
            yield f"{name}: {value}"
        elif isinstance(value, list | tuple):
            yield from (f"{name}: {one}" for one in value)


def _changes(before: Mapping[str, Any], wanted: Resource, renewed: Collection[Key]) -> Iterable[str]:
    for name, value in wanted.spec.items():
        old = before.get(name)
        if wanted.follows.get(name) in renewed:
            yield f"{name}: replaced"
        elif old == value:
            continue
        elif isinstance(value, list | tuple) and isinstance(old, list | tuple):
            yield from (f"- {name}: {one}" for one in old if one not in value)
            yield from (f"+ {name}: {one}" for one in value if one not in old)
        elif isinstance(value, str | int | float | None) and isinstance(old, str | int | float | None):
            yield f"{name}: {old} → {value}"
        else:
            yield f"{name} has changed"
