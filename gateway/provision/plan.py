"""Wanted against actual -> steps. Pure.

A resource is one thing on one server that provisioning looks after: a role, a bucket, a dashboard. Its identity is
(server, kind, name); its `spec` is whatever of it can be compared, as JSON values. What a server has and does not
tell (a password, a hashed token) is no part of the spec.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

from gateway.config import Config

Action = Literal["create", "update", "remove"]
MARK = "made by testbed-gateway"
"""The description of whatever provisioning makes, so that it changes and removes nothing else."""
SIGNS: Mapping[Action, str] = {"create": "+", "update": "~", "remove": "-"}


class Key(NamedTuple):
    """What identifies a resource."""

    server: str
    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Resource:
    """One thing, as it is wanted or as it is. `is_ours`: provisioning made it, so it may change and remove it.

    Of a wanted one `needs` names what has to be there first. `follows` names what in its spec comes out of another
    resource, and is made anew with that: what it will be is not known when the plan is made. Of an actual one
    `is_left_alone` says that nothing is done to it.
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
    """One thing to do. `resource` is the wanted one, or for a removal the actual one. `changes` are for people."""

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
    """Something of a wanted name is there already and is not ours; nothing is done to it."""

    resource: Resource

    def __str__(self) -> str:
        one = self.resource
        return (
            f"{one.server} has a {one.kind} {one.name!r} already, which provisioning did not make: rename or remove "
            "it there, then plan again"
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """What has to be done, in order, and what is in the way. `leftover` is ours and no longer wanted, not pruned.
    `stays` is wanted no longer either, and other people use it. `waiting` is in conflict, or needs what is."""

    steps: tuple[Step, ...]
    conflicts: tuple[Conflict, ...] = ()
    leftover: tuple[Resource, ...] = ()
    stays: tuple[Resource, ...] = ()
    waiting: frozenset[Key] = frozenset()

    @property
    def is_done(self) -> bool:
        return not self.steps and not self.conflicts


class Credential(NamedTuple):
    """Something secret that was just made, to be shown once. `whose` is told to people."""

    startup: str
    whose: str
    name: str
    secret: str


class Server(Protocol):
    """One server that is provisioned. Every method may raise a `ProvisionError` that says what to do."""

    name: str

    def wanted(self, config: Config) -> list[Resource]:
        """What should be there, in the order in which it has to be made. It asks no server, but may read
        the vault: call it in a thread. It minds what the last `actual` found.
        """

    async def actual(self, config: Config) -> list[Resource]:
        """What is there: everything of ours, and whatever has a name that is wanted."""

    async def apply(self, step: Step) -> list[Credential]:
        """Do one step. Done twice it does no harm."""

    async def close(self) -> None:
        """Let go of connections."""


def diff(
    wanted: Sequence[Resource],
    actual: Iterable[Resource],
    *,
    prune: bool = False,
    anew: Collection[Key] = (),
    waiting: Collection[Key] = (),
) -> Plan:
    """The steps from `actual` to `wanted`: made and changed in the order of `wanted`, removed in reverse order.

    `anew` is what steps on servers before this one make or change: whatever follows from it is changed too. `waiting`
    is what cannot be made there: whatever needs it has to wait.
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
            known = {name: value for name, value in resource.spec.items() if resource.follows.get(name) not in anew}
            steps.append(Step("create", resource, tuple(_told(known))))
        elif found.is_left_alone:
            continue
        elif not found.is_ours:
            conflicts.append(Conflict(found))
            stuck.add(resource.key)
        elif changes := tuple(_changes(found.spec, resource, anew)):
            steps.append(Step("update", resource, changes))
    unwanted = [resource for resource in there.values() if resource.is_ours and not resource.is_left_alone]
    if prune:
        steps += [Step("remove", resource) for resource in reversed(unwanted)]
    stays = tuple(resource for resource in there.values() if resource.is_left_alone)
    return Plan(tuple(steps), tuple(conflicts), () if prune else tuple(unwanted), stays, frozenset(stuck))


def _told(spec: Mapping[str, Any]) -> Iterable[str]:
    for name, value in spec.items():
        if isinstance(value, bool) or value == "":
            continue  # what is always so needs no telling
        if isinstance(value, str | int | float):
            yield f"{name}: {value}"
        elif isinstance(value, list | tuple):
            yield from (f"{name}: {one}" for one in value)


def _changes(before: Mapping[str, Any], wanted: Resource, anew: Collection[Key]) -> Iterable[str]:
    for name, value in wanted.spec.items():
        old = before.get(name)
        if wanted.follows.get(name) in anew:
            yield f"{name}: made anew"
        elif old == value:
            continue
        elif isinstance(value, list | tuple) and isinstance(old, list | tuple):
            yield from (f"- {name}: {one}" for one in old if one not in value)
            yield from (f"+ {name}: {one}" for one in value if one not in old)
        elif isinstance(value, str | int | float | None) and isinstance(old, str | int | float | None):
            yield f"{name}: {old} → {value}"
        else:
            yield f"{name} has changed"
